"""Calls of fused_moe in Composable Kernel's two stages, with oracles in float64 that round where the stages do.

A stage's tile is by the rows of a block: by the number of tokens, or of block scales. Each takes a compiler half a minute.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jax_aiter.ops.moe import cases
from tests.asm import moe

OP = "fused_moe"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of call: its quantisation, weights ("fp8": the device's), and what it asks of every tile's D and I."""

    quant: str
    weights: str
    dim: int
    inter: int


KINDS = {
    "bf16": Kind("none", "bfloat16", 256, 128),
    "fp16": Kind("none", "float16", 256, 128),
    "token": Kind("per_token", "fp8", 512, 256),
    "blocks": Kind("per_1x128", "fp8", 384, 256),
}


def moe_calls(make, fp8: str):
    """make: of (op, name, operands, params, check)."""
    yield _call(make, fp8, "bf16", 5, odd=True)
    for kind in KINDS:
        for activation in ("silu", "gelu"):
            yield _call(make, fp8, kind, 33, activation=activation, topk=3, experts=5)
        yield _call(make, fp8, kind, 9, mask=True)
        yield _call(make, fp8, kind, 20, local=7)
        yield _call(make, fp8, kind, 1, topk=1, early=True)
    for kind in ("bf16", "token"):  # 64 rows a block, and several launches to sort
        yield _call(make, fp8, kind, 520, inter=1024)
    for kind in ("token", "blocks"):
        yield _call(make, fp8, kind, 6, dim=1536, inter=768)
        yield _call(make, fp8, kind, 7, quantised=True)
        yield _call(make, fp8, kind, 4, out="float16")
    yield _call(make, fp8, "bf16", 520, inter=1024, experts=8)  # 128 rows
    yield _call(make, fp8, "bf16", 7)


def _call(
    make, fp8, kind, tokens, *, experts=4, topk=2, dim=0, inter=0, activation="silu", out=None, odd=False, mask=False, local=None,
    early=False, quantised=False,
):  # fmt: skip
    of = KINDS[kind]
    weights = np.dtype(getattr(ml_dtypes, fp8) if of.weights == "fp8" else jnp.dtype(of.weights))
    hidden = of.weights if of.quant == "none" else out or "bfloat16"
    out = out or hidden
    shape = moe.Shape(tokens, experts, topk, dim or of.dim, inter or of.inter)
    rng = np.random.default_rng(tokens)
    ids = None
    if odd:  # an id that is none, one that stands twice, a token without experts, experts without tokens
        ids = np.array([[0, 3], [-1, 3], [3, 3], [experts, -7], [3, 0]])
    if mask:
        ids = np.argsort(rng.random((tokens, 2 * experts)), axis=-1)[:, :topk]
    args = moe.arguments(rng, shape, weights, of.quant, hidden=hidden, ids=ids)
    if tokens > 5:  # zeros, whose scale AITER's kernel makes 0, and divides by
        args["hidden_states"] = np.array(args["hidden_states"])
        args["hidden_states"][tokens // 2] = 0
    more = {"expert_mask": np.arange(2 * experts, dtype=np.int32) % 2} if mask else {}
    more |= {} if local is None else {"num_local_tokens": np.array([local], np.int32)}
    if quantised:
        width = moe.GROUP if of.quant == "per_1x128" else shape.dim
        values, scale = moe.scaled(args["hidden_states"].astype(np.float32), weights, width)
        args, more = {**args, "hidden_states": values}, {**more, "a1_scale": scale}
    options = {"activation": activation, "mask": more.get("expert_mask"), "local_tokens": local, "early": early}

    def check(results):
        want = moe.oracle(args, tile=shape.inter, a1_scale=more.get("a1_scale"), stored=np.dtype(jnp.dtype(out)), **options)
        moe.assert_agrees(results[0], want)

    given = {**args, "w1": moe.shuffle(args["w1"]).data, "w2": moe.shuffle(args["w2"]).data, **more}
    if local is not None:
        given["hidden_states"] = np.array(given["hidden_states"])
        given["hidden_states"][local:] = np.nan
    params = {**cases.DEFAULTS, "activation": activation, "quant_type": of.quant, "doweight_stage1": early}
    params |= {"weight_layout": (16, 16), "output_dtype": jnp.dtype(out)}
    told = {"mask": mask, "local": local, "early": early, "quantised": quantised, "odd": odd}
    marks = [mark for mark, given in told.items() if given]
    name = "-".join([kind, "x".join(map(str, dataclasses.astuple(shape))), activation, out, *marks])
    return make(OP, name, {n: jnp.asarray(x) for n, x in given.items()}, params, check)
