"""Backward pass of `flash_attention`, an op of its own so that kernels can run it."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal, uniform
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.attention import params as params_of
from jax_aiter.ops.attention import reads as reads_of
from jax_aiter.ops.attention.forms import cudnn, rows
from jax_aiter.ops.attention.forms.blocks import backward, forward
from jax_aiter.ops.attention.forms.visible import Scores, dense_keys


def group_heads(x: jax.Array, kv_heads: int) -> jax.Array:
    """[B, S, Hq, D] -> [B, Hk, G, S, D]."""
    b, s, hq, d = x.shape
    return x.reshape(b, s, kv_heads, hq // max(kv_heads, 1), d).transpose(0, 2, 3, 1, 4)


def merge_heads(x: jax.Array) -> jax.Array:
    """[B, Hk, G, S, D] -> [B, S, Hq, D]."""
    b, hk, g, s, d = x.shape
    return x.transpose(0, 3, 1, 2, 4).reshape(b, s, hk * g, d)


def grouped_slopes(slopes: jax.Array | None, kv_heads: int) -> jax.Array | None:
    """[Hq] or [B, Hq] -> [1 or B, Hk, G, 1]."""
    if slopes is None:
        return None
    *b, hq = slopes.shape
    return slopes.reshape(b[0] if b else 1, kv_heads, hq // max(kv_heads, 1), 1)


def grouped_sinks(sinks: jax.Array | None, kv_heads: int) -> jax.Array | None:
    """[Hq] -> [Hk, G]."""
    return None if sinks is None else sinks.reshape(kv_heads, sinks.shape[0] // max(kv_heads, 1))


def relayout(params):
    return {"alibi_slopes": "B Hq"} if params["alibi_per_sequence"] else {}


def _relayout(params):
    changed = relayout(params)
    if not params["with_bias"]:
        return {**changed, "dbias": "B none"}
    # The bias gradient sums over sequences, so with a bias they neither fold nor split: they get a name that nothing declares.
    names = {**FLASH_ATTENTION_BWD.operands, **FLASH_ATTENTION_BWD.results}
    axes = {n: changed.get(n, a if isinstance(a, str) else a.axes) for n, a in names.items()}
    return {n: " ".join("N" if part == "B" else part for part in a.split()) for n, a in axes.items()}


def _abstract(dims, *, dout, q, k, v, out, bias, **params):
    check.same_dtype("flash_attention_bwd", q=q.dtype, k=k.dtype, v=v.dtype, out=out.dtype, dout=dout.dtype)
    params_of.group_size("flash_attention_bwd", dims["Hq"], dims["Hk"])
    if params["with_bias"] != (bias is not None):
        raise ValueError(f"flash_attention_bwd: with_bias is {params['with_bias']}, must say whether there is a bias")
    return q, k, v, jax.ShapeDtypeStruct((dims["B"], 0), jnp.float32) if bias is None else bias


def _reference(
    *, dout, q, k, v, out, lse, alibi_slopes, bias, dlse, sinks, scale, causal, sliding_window, logits_soft_cap,
    alibi_per_sequence, with_bias, attention_chunk_size=0,
):  # fmt: skip
    (b, sq, hq, _), sk, hk = q.shape, k.shape[1], k.shape[2]
    keys = dense_keys(sq, sk, causal, sliding_window, attention_chunk_size)
    scores = Scores(scale, logits_soft_cap, grouped_slopes(alibi_slopes, hk), bias)
    dout, grouped, out = (group_heads(x, hk) for x in (dout, q, out))
    lse, dlse = (x if x is None else x.reshape(b, hk, hq // max(hk, 1), sq) for x in (lse, dlse))
    dq, dk, dv, dbias = backward(dout, grouped, k.swapaxes(1, 2), v.swapaxes(1, 2), out, lse, keys, scores, dlse)
    results = (merge_heads(dq).astype(q.dtype), dk.swapaxes(1, 2).astype(k.dtype), dv.swapaxes(1, 2).astype(v.dtype))
    return (*results, jnp.zeros((b, 0), jnp.float32) if dbias is None else dbias.astype(bias.dtype))


def _forward(*, out, lse, **given):
    """For derivatives of this pass: `out` and `lse` are functions of q, k, v, bias and sinks here, not operands of their own."""
    q, k, v = given["q"], given["k"], given["v"]
    hk, sq, sk = k.shape[2], q.shape[1], k.shape[1]
    mask = given["causal"], given["sliding_window"], given.get("attention_chunk_size", 0)
    keys = dense_keys(sq, sk, *mask)
    slopes, sinks = grouped_slopes(given["alibi_slopes"], hk), grouped_sinks(given["sinks"], hk)
    scores = Scores(given["scale"], given["logits_soft_cap"], slopes, given["bias"], sinks)
    out, lse = forward(group_heads(q, hk), k.swapaxes(1, 2), v.swapaxes(1, 2), keys, scores)
    return _reference(out=merge_heads(out), lse=lse.reshape(q.shape[0], q.shape[2], sq), **given)


def _reads(*, q, k, alibi_slopes, bias, causal, sliding_window, attention_chunk_size=0, **_):
    sees = reads_of.dense_sees(q.shape[1], k.shape[1], causal, sliding_window, attention_chunk_size)
    return reads_of.Heads(q, k, sees).backward(alibi_slopes, bias)


FLASH_ATTENTION_BWD = Op(
    name="flash_attention_bwd",
    family="ATTENTION",
    mirrors="aiter.mha_bwd, aiter.fmha_v3_bwd (aiter/ops/mha.py)",
    operands={
        "dout": Arg("B Sq Hq Dv"),
        "q": Arg("B Sq Hq D"),
        "k": Arg("B Sk Hk D"),
        "v": Arg("B Sk Hk Dv"),
        "out": Arg("B Sq Hq Dv"),
        "lse": Arg("B Hq Sq", ("float32",)),
        "alibi_slopes": Arg("Hq", ("float32",), optional=True),
        "bias": Arg("Sq Sk", optional=True),
        "dlse": Arg("B Hq Sq", ("float32",), optional=True),  # the cotangent of lse, where the caller has it
        "sinks": Arg("Hq", ("float32",), optional=True),  # in lse already; what the derivatives of this pass need
    },
    results={"dq": "B Sq Hq D", "dk": "B Sk Hk D", "dv": "B Sk Hk Dv", "dbias": "Sq Sk"},  # dbias is [B, 0] without a bias
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    gpu=cudnn.either(cudnn.backward, rows.NAME),
    parallel=("B",),
    fold="B",
    reads=_reads,
    gradient=Gradient(
        wrt=("dout", "q", "k", "v", "out", "lse", "bias", "dlse", "sinks"),
        saves=("dout", "q", "k", "v", "alibi_slopes", "bias", "dlse", "sinks"),
        backward=None,
        forward=_forward,
    ),
    defaults={"attention_chunk_size": 0},
    cases=lambda: [
        case(
            "chunked",
            dout=normal(2, 6, 2, 8),
            q=normal(2, 6, 2, 8),
            k=normal(2, 6, 1, 8),
            v=normal(2, 6, 1, 8),
            out=normal(2, 6, 2, 8),
            lse=uniform(2, 2, 6, low=3.0, high=4.0),
            scale=0.35,
            causal=True,
            sliding_window=(-1, -1),
            attention_chunk_size=4,
            logits_soft_cap=0.0,
            alibi_per_sequence=False,
            with_bias=False,
        ),
        case(
            "alibi_bias_cap",
            dout=normal(1, 3, 2, 4, dtype=jnp.bfloat16),
            q=normal(1, 3, 2, 8, dtype=jnp.bfloat16),
            k=normal(1, 5, 2, 8, dtype=jnp.bfloat16),
            v=normal(1, 5, 2, 4, dtype=jnp.bfloat16),
            out=normal(1, 3, 2, 4, dtype=jnp.bfloat16),
            lse=uniform(1, 2, 3, low=3.0, high=4.0),
            alibi_slopes=uniform(1, 2),
            bias=normal(3, 5),
            scale=0.35,
            causal=False,
            sliding_window=(2, 1),
            logits_soft_cap=4.0,
            alibi_per_sequence=True,
            with_bias=True,
        ),
        case(
            "dlse_sinks",
            dout=normal(2, 5, 4, 8),
            q=normal(2, 5, 4, 8),
            k=normal(2, 3, 2, 8),
            v=normal(2, 3, 2, 8),
            out=normal(2, 5, 4, 8),
            lse=uniform(2, 4, 5, low=3.0, high=4.0),
            dlse=normal(2, 4, 5),
            sinks=normal(4),
            scale=0.35,
            causal=True,
            sliding_window=(-1, -1),
            logits_soft_cap=0.0,
            alibi_per_sequence=False,
            with_bias=False,
        ),
    ],
)
