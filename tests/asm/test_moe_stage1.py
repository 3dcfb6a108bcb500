"""The stage-1 kernels of the two-stage mixture of experts, through moe_stage1_g1u1 and moe_stage1_g1u1_blockscale."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jax_aiter
from jax_aiter import NotSupportedError
from jax_aiter.kernels.call import export_checks
from jax_aiter.kernels.known import AITER_COMMIT

from . import common, moe, moe_stage1
from .moe_stage1 import check

# table -> (dtype, quantisation, weights multiplied in)
KINDS = {
    "pertokenFp8": ("fp8", "per_token", False),
    "pertokenFp8_doweight": ("fp8", "per_token", True),
    "pertokenInt8": ("int8", "per_token", False),
    "pertokenFp8_blockscale": ("fp8", "per_1x128", False),
}
ACTIVATIONS = ("silu", "gelu_tanh")


def dtype_of(name, arch):
    return np.dtype(np.int8) if name == "int8" else np.dtype(moe.FP8[arch])


def rows_of(kind, arch):
    op = "moe_stage1_g1u1_blockscale" if kind.endswith("blockscale") else "moe_stage1_g1u1"
    return common.rows(op, arch, f"fmoe_2stages/fmoe_stage1_bf16_{kind}_g1u1.csv")


def run_row(kind, arch, index, row):
    """A call that fills more than one block of an expert, in more than one tile where that is cheap."""
    dtype, quant, weighted = KINDS[kind]
    tile_m, tile_n = row["tile_m"], row["tile_n"]
    inter = tile_n * (2 if tile_n < 256 else 1)
    shape = moe.Shape(tokens=tile_m // 2 + 3, experts=3, topk=2, dim=(512, 384)[index % 2], inter=inter)
    check(
        shape,
        dtype_of(dtype, arch),
        quant,
        tile_m,
        activation=ACTIVATIONS[index % 2],
        weighted=weighted,
        kernel=row.symbol,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_tiles(arch, kind):
    """Every third kernel; `test_every_kernel` is the whole sweep."""
    for index, row in enumerate(rows_of(kind, arch)):
        if index % 3 == 0:
            run_row(kind, arch, index, row)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_every_kernel(arch, kind):
    for index, row in enumerate(rows_of(kind, arch)):
        run_row(kind, arch, index, row)


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 31, 32, 33, 257])
def test_token_counts(arch, tokens):
    check(moe.Shape(tokens=tokens, experts=4, topk=2, dim=256, inter=128), dtype_of("fp8", arch), "per_token", 32)


@pytest.mark.parametrize("quant", ["per_token", "per_1x128"])
def test_one_expert_takes_all_and_some_are_empty(arch, quant):
    ids = np.full((40, 1), 3)
    check(moe.Shape(tokens=40, experts=5, topk=1, dim=256, inter=128), dtype_of("fp8", arch), quant, 16, ids=ids)


@pytest.mark.parametrize("quant", ["per_token", "per_1x128"])
def test_rows_of_masked_experts_are_zero(arch, quant):
    rng = np.random.default_rng(3)
    ids = np.argsort(rng.random((33, 6)), axis=-1)[:, :3]
    ids[ids >= 4] = -1  # held elsewhere: not in the sorted list
    ids[7] = -1
    check(moe.Shape(tokens=33, experts=4, topk=3, dim=256, inter=128), dtype_of("fp8", arch), quant, 32, ids=ids)


def test_nothing_is_routed_here(arch):
    check_zero = functools.partial(check, dtype=dtype_of("fp8", arch), quant="per_token", block=16)
    check_zero(moe.Shape(tokens=5, experts=2, topk=2, dim=256, inter=64), ids=np.full((5, 2), -1))


def test_after_moe_sorting(arch):
    """The list as the library's own moe_sorting makes it, in one program with the kernel."""
    rng = np.random.default_rng(5)
    shape = moe.Shape(tokens=33, experts=4, topk=2, dim=256, inter=128)
    args, _, ids, weight = moe_stage1.arguments(rng, shape, dtype_of("fp8", arch), "per_token", 32)
    given = moe_stage1.on_device(args)

    @jax.jit
    def run(given, ids, weight):
        tokens, _, experts, valid = jax_aiter.moe_sorting(ids, weight, shape.experts, 32)
        lists = {"sorted_token_ids": tokens, "sorted_expert_ids": experts, "num_valid_ids": valid}
        return jax_aiter.moe_stage1_g1u1(**{**given, **lists}, w2=None, topk=2, block_m=32, implementation="asm")

    out = run(given, jnp.asarray(ids, jnp.int32), jnp.asarray(weight))
    moe_stage1.agrees(np.asarray(out, np.float64), moe_stage1.oracle(args, ids, None, "silu", "per_token"))


def test_per_tensor_scales_are_repeated(arch):
    rng = np.random.default_rng(6)
    shape = moe.Shape(tokens=9, experts=3, topk=2, dim=256, inter=128)
    args, _, ids, _ = moe_stage1.arguments(rng, shape, dtype_of("fp8", arch), "per_token", 16)
    scales = {"a1_scale": np.float32([0.02]), "w1_scale": args["w1_scale"][:, 0]}
    given = moe_stage1.on_device({**args, **scales})
    call = functools.partial(jax_aiter.moe_stage1_g1u1, w2=None, topk=2, block_m=16, quant_type="per_tensor", implementation="asm")
    whole = {
        "a1_scale": np.full((9, 1), 0.02, np.float32),
        "w1_scale": np.repeat(args["w1_scale"][:, :1], 256, axis=1),
    }
    expected = moe_stage1.oracle({**args, **whole}, ids, None, "silu", "per_token")
    moe_stage1.agrees(np.asarray(jax.jit(lambda a: call(**a))(given), np.float64), expected)


@pytest.mark.parametrize("quant", ["per_token", "per_1x128"])
def test_export_and_reload(arch, quant):
    rng = np.random.default_rng(8)
    shape = moe.Shape(tokens=6, experts=3, topk=2, dim=256, inter=128)
    given = moe_stage1.on_device(moe_stage1.arguments(rng, shape, dtype_of("fp8", arch), quant, 16)[0])
    function = jax_aiter.moe_stage1_g1u1_blockscale if quant == "per_1x128" else jax_aiter.moe_stage1_g1u1
    call = jax.jit(lambda **a: function(**a, w2=None, topk=2, block_m=16, implementation="asm"))
    given["w1"] = given["w1"].data
    inner = jax.jit(lambda a: call(**{**a, "w1": jax_aiter.ShuffledWeight(a["w1"], (16, 16))}))
    data = export.export(inner, platforms=["rocm"], disabled_checks=export_checks())(given).serialize()
    again = export.deserialize(data).call(given)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(inner(given)), strict=True):  # exact: the same code object and data
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_vmap(arch):
    """A loop over the batch, each call on the kernel."""
    rng = np.random.default_rng(9)
    shape = moe.Shape(tokens=7, experts=3, topk=2, dim=256, inter=128)
    drawn = [moe_stage1.arguments(rng, shape, dtype_of("fp8", arch), "per_token", 16) for _ in range(2)]
    given = [moe_stage1.on_device(d[0]) for d in drawn]
    shared = {"w1": given[0]["w1"], "w1_scale": given[0]["w1_scale"]}
    stacked = {n: jnp.stack([g[n] for g in given]) for n in given[0] if n not in shared}
    call = functools.partial(jax_aiter.moe_stage1_g1u1, w2=None, topk=2, block_m=16, implementation="asm", **shared)
    out = jax.jit(jax.vmap(lambda a: call(**a)))(stacked)
    for i, (args, _, ids, _) in enumerate(drawn):
        args = {**args, "w1": drawn[0][0]["w1"], "w1_scale": drawn[0][0]["w1_scale"]}
        moe_stage1.agrees(np.asarray(out[i], np.float64), moe_stage1.oracle(args, ids, None, "silu", "per_token"))


@pytest.mark.parametrize("count", [25, pytest.param(75, marks=pytest.mark.exhaustive)])
def test_random_calls(arch, count):
    """Drawn calls by default rules; every one runs and agrees."""
    rng = np.random.default_rng(count)
    for seed in range(count):
        kind = tuple(KINDS)[rng.integers(len(KINDS))]
        dtype, quant, weighted = KINDS[kind]
        sizes = [(r.number("tile_m"), r.number("tile_n")) for r in rows_of(kind, arch) if r.number("tile_m") <= 64]
        block, tile = sizes[rng.integers(len(sizes))]
        experts = int(rng.integers(1, 7))
        shape = moe.Shape(
            tokens=int(rng.integers(1, 70)),
            experts=experts,
            topk=int(rng.integers(1, experts + 1)),
            dim=128 * int(rng.integers(2, 6)),
            inter=tile * int(rng.integers(1, 3)),
        )
        check(
            shape,
            dtype_of(dtype, arch),
            quant,
            block,
            weighted=weighted,
            activation=ACTIVATIONS[rng.integers(2)],
            seed=seed,
        )


def test_tuned_rows(arch):
    """AITER's tables have these sizes for a full gfx950; on gfx942 only for other numbers of compute units."""
    fp8 = jnp.dtype(dtype_of("fp8", arch))
    operands = [
        jax.ShapeDtypeStruct((256, 5120), fp8),
        jax.ShapeDtypeStruct((40, 3072, 5120), fp8),
        jax.ShapeDtypeStruct((256 * 8 + 40 * 64 - 8,), jnp.int32),
        jax.ShapeDtypeStruct((-(-(256 * 8 + 40 * 64 - 8) // 64),), jnp.int32),
        jax.ShapeDtypeStruct((2,), jnp.int32),
        jax.ShapeDtypeStruct((256, 1), jnp.float32),
        jax.ShapeDtypeStruct((40, 3072), jnp.float32),
    ]

    def call(x, w1, tokens, experts, valid, a1, w1_scale):
        w1 = jax_aiter.ShuffledWeight(w1, (16, 16))
        return jax_aiter.moe_stage1_g1u1(
            x, w1, None, tokens, experts, valid, topk=8, block_m=64, a1_scale=a1, w1_scale=w1_scale, implementation="asm"
        )

    (found,) = jax_aiter.explain(call, *operands)
    if arch == "gfx950" and common.release() == AITER_COMMIT:
        assert "the tuned row for 256 tokens" in found.details[2]
        assert "64x128_2tg_pf3" in found.details[0]
    else:
        assert "AITER's heuristic" in found.details[2]


REFUSED = [
    ({"block": 24}, "block_m = 24"),
    ({"inter": 96}, "I = 96"),
    ({"dim": 128}, "D = 128"),
    ({"dim": 320}, "D = 320"),
    ({"plain": True}, "w1 is plain"),
    ({"kernel": "nothing"}, "kernel = 'nothing'"),
    ({"dtype": "int8", "weighted": True}, "sorted_weights is given"),
]


@pytest.mark.parametrize(("change", "rule"), REFUSED)
def test_refusals(arch, change, rule):
    c = {"block": 32, "inter": 128, "dim": 256, "plain": False, "kernel": None, "dtype": "fp8", "weighted": False, **change}
    shape = moe.Shape(tokens=4, experts=2, topk=1, dim=c["dim"], inter=c["inter"])
    args, weights, *_ = moe_stage1.arguments(np.random.default_rng(0), shape, dtype_of(c["dtype"], arch), "per_token", c["block"])
    given = {n: jnp.asarray(x) for n, x in args.items()}
    if not c["plain"]:
        given["w1"] = jax_aiter.ShuffledWeight(given["w1"], (16, 16))
    if c["weighted"]:
        given["sorted_weights"] = jnp.asarray(weights)
    options = {"topk": 1, "block_m": c["block"], "implementation": "asm", "kernel": c["kernel"]}
    call = functools.partial(jax_aiter.moe_stage1_g1u1, w2=None, **options)
    with pytest.raises(NotSupportedError, match=rule):
        jax.jit(lambda a: call(**a)).lower(given)
