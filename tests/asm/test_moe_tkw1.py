"""tkw1: the top-k weight before the activation, through asm_moe_tkw1 and fused_moe(doweight_stage1=True), against float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jax_aiter
from jax_aiter import NotSupportedError
from jax_aiter.kernels.asm.moe import tkw1
from jax_aiter.kernels.call import export_checks

from . import common, moe

NAMES = {"topk_weight": "topk_weights", "w1_scale": "fc1_scale", "w2_scale": "fc2_scale"}


def call_of(op, activation, kernel, output):
    """The op as a function of fused_moe's arrays."""
    options = {"activation": activation, "implementation": "asm", "kernel": kernel}
    if op == "fused_moe":
        options |= {"quant_type": "per_token", "doweight_stage1": True, "output_dtype": output}
        return lambda arrays: jax_aiter.fused_moe(**arrays, **options)
    assert output == "bfloat16"  # that of the hidden states
    return lambda arrays: jax_aiter.asm_moe_tkw1(**{NAMES.get(n, n): x for n, x in arrays.items()}, **options)


def check(arch, shape, *, op="asm_moe_tkw1", activation="silu", kernel=None, output="bfloat16", ids=None, mask=None, seed=0):
    args = moe.arguments(np.random.default_rng(seed), shape, moe.FP8[arch], "per_token", ids=ids)
    call = call_of(op, activation, kernel, output)
    arrays = moe.on_device(args)
    if mask is not None:
        arrays["expert_mask"] = jnp.asarray(mask, jnp.int32)
    with common.running(call, arrays) as out:
        tile = int(common.selected(call, arrays).symbol.rstrip("E").rpartition("x")[2])
        moe.assert_agrees(out, moe.oracle(args, tile=tile, activation=activation, mask=mask, early=True))


def sweep(arch, step):
    for table in tkw1.TABLES:
        activation, output = ("gelu_tanh" if "_gelu_" in table else "silu"), ("float16" if "fp16" in table else "bfloat16")
        for row in common.rows("asm_moe_tkw1", arch, table)[::step]:
            if tkw1.never(row) is not None:
                continue  # refused by name
            shape = moe.Shape(tokens=9, experts=3, topk=2, dim=512, inter=row.number("subGU_n"))
            check(arch, shape, op="fused_moe", activation=activation, kernel=row.symbol, output=output)


def test_some_kernels(arch):
    sweep(arch, 5)


@pytest.mark.exhaustive
def test_every_kernel(arch):
    sweep(arch, 1)


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 31, 32, 33, 257])
def test_token_counts(arch, tokens):
    check(arch, moe.Shape(tokens=tokens, inter=128), seed=tokens)


def test_one_expert_takes_all_and_some_are_empty(arch):
    check(arch, moe.Shape(tokens=40, experts=5, topk=1, inter=128), ids=np.full((40, 1), 3))


def test_ids_of_nobody_contribute_nothing(arch):
    ids = np.random.default_rng(1).integers(-2, 7, (33, 2))
    ids[5] = (-1, 4)
    check(arch, moe.Shape(experts=4, inter=128), ids=ids)


def test_expert_mask(arch):
    mask = np.array([0, 1, 0, 1, 1, 0], np.int32)
    ids = np.argsort(np.random.default_rng(2).random((17, 6)), axis=-1)[:, :2]
    check(arch, moe.Shape(tokens=17, experts=3, inter=128), ids=ids, mask=mask)


def test_several_tiles_and_steps(arch):
    check(arch, moe.Shape(tokens=20, dim=768, inter=640), activation="gelu_tanh")


def test_a_static_scale(arch):
    args = moe.arguments(np.random.default_rng(3), moe.Shape(tokens=9, inter=128), moe.FP8[arch], "per_token")
    arrays = {NAMES.get(n, n): x for n, x in moe.on_device(args).items()}
    call = functools.partial(jax_aiter.asm_moe_tkw1, per_tensor_quant_scale=0.02, implementation="asm")
    x = moe.cast(args["hidden_states"].astype(np.float64) / np.float32(0.02), moe.FP8[arch])
    scale = np.full((9, 1), 0.02, np.float32)
    out = jax.jit(lambda a: call(**a))(arrays)
    moe.assert_agrees(out, moe.oracle({**args, "hidden_states": x}, tile=128, a1_scale=scale, early=True))


@pytest.mark.parametrize("count", [12, pytest.param(90, marks=pytest.mark.exhaustive)])
def test_random_calls(arch, count):
    rng = np.random.default_rng(count)
    for seed in range(count):
        experts = int(rng.integers(1, 6))
        shape = moe.Shape(
            tokens=int(rng.integers(1, 60)),
            experts=experts,
            topk=int(rng.integers(1, experts + 1)),
            dim=256 * int(rng.integers(2, 5)),
            inter=64 * int(rng.choice([2, 3, 4, 5, 6, 7, 8, 9, 10])),
        )
        check(arch, shape, activation=("silu", "gelu_tanh")[seed % 2], op=("fused_moe", "asm_moe_tkw1")[seed // 2 % 2], seed=seed)


def test_vmap(arch):
    shape = moe.Shape(tokens=5, experts=3, inter=128)
    drawn = [moe.arguments(np.random.default_rng(s), shape, moe.FP8[arch], "per_token") for s in (5, 6)]
    shared = {NAMES.get(n, n): x for n, x in moe.on_device(drawn[0]).items() if n.startswith("w")}
    own = {NAMES.get(n, n): jnp.stack([jnp.asarray(d[n]) for d in drawn]) for n in ("hidden_states", "topk_weight", "topk_ids")}
    out = jax.jit(jax.vmap(lambda a: jax_aiter.asm_moe_tkw1(**a, **shared, implementation="asm")))(own)
    for i, args in enumerate(drawn):
        weights = {n: x for n, x in drawn[0].items() if n.startswith("w")}
        moe.assert_agrees(out[i], moe.oracle({**args, **weights}, tile=128, early=True))


def test_export_and_reload(arch):
    pytest.importorskip("flatbuffers")
    args = moe.arguments(np.random.default_rng(7), moe.Shape(tokens=5, inter=128), moe.FP8[arch], "per_token")
    arrays = {NAMES.get(n, n): getattr(x, "data", x) if n in ("w1", "w2") else x for n, x in moe.on_device(args).items()}

    def run(a):
        wrapped = {n: jax_aiter.ShuffledWeight(x, (16, 16)) if n in ("w1", "w2") else x for n, x in a.items()}
        return jax_aiter.asm_moe_tkw1(**wrapped, implementation="asm")

    data = export.export(jax.jit(run), platforms=["rocm"], disabled_checks=export_checks())(arrays).serialize()
    moe.assert_agrees(export.deserialize(data).call(arrays), moe.oracle(args, tile=128, early=True))


REFUSED = [
    ({"dim": 640}, {}, "D = 640"),
    ({"dim": 256}, {}, "D = 256"),
    ({"inter": 96}, {}, "I = 96"),
    ({}, {"kernel": "nothing"}, "kernel = 'nothing'"),
    ({}, {"a16": True}, "a16 = True"),
    ({}, {"fc1_smooth_scale": (4, 512), "fc2_smooth_scale": (4, 128)}, "fc1_smooth_scale is given"),
    ({"dtype": np.int8}, {}, "compute in fp8"),
    ({"plain": True}, {}, "layout plain"),
    ({"hidden": "float32"}, {}, "output_dtype = float32"),
    ({"hidden": "float16"}, {"kernel": "fmoe_fp16_pertokenInt8_g1u1_tkw1_silu_1tg_32x128"}, "holds fp8 instructions, not int8"),
]


@pytest.mark.parametrize(("change", "options", "rule"), REFUSED)
def test_refusals(arch, change, options, rule):
    c = {"dim": 512, "inter": 128, "dtype": moe.FP8[arch], "plain": False, "hidden": "bfloat16", **change}
    shape = moe.Shape(tokens=3, experts=4, topk=1, dim=c["dim"], inter=c["inter"])
    args = moe.arguments(np.random.default_rng(0), shape, c["dtype"], "per_token", hidden=c["hidden"])
    arrays = {n: jnp.asarray(x) for n, x in args.items()} if c["plain"] else moe.on_device(args)
    arrays = {NAMES.get(n, n): x for n, x in arrays.items()}
    options = {n: jnp.ones(v) if isinstance(v, tuple) else v for n, v in options.items()}
    with pytest.raises(NotSupportedError, match=rule):
        jax.jit(lambda a: jax_aiter.asm_moe_tkw1(**a, **options, implementation="asm")).lower(arrays)
