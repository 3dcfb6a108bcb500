"""asm_moe with smooth-quantisation scales on AITER's kernels: hidden states quantised per slot, and inside the kernel (a16)."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import NotSupportedError
from jax_aiter.kernels.asm.moe import limits

from . import common, moe

A16_TILES = {"Fp8": (320, 512), "Int8": (256, 320)}  # what both architectures have for both activations
STEP = 256  # columns of the hidden states that the a16 kernels quantise together
NAMES = {"w1_scale": "fc1_scale", "w2_scale": "fc2_scale"}


def arguments(arch, shape, kind, hidden="bfloat16", ids=None):
    rng = np.random.default_rng(0)
    dtype = np.int8 if kind == "Int8" else moe.FP8[arch]
    args = moe.arguments(rng, shape, dtype, "per_token", hidden=hidden, ids=ids)
    experts, dim, inter = args["w2"].shape
    before, between = (0.5 + rng.random((experts, n)) for n in (dim, inter))
    return args, before.astype(np.float32), between.astype(np.float32)


def oracle(args, before, between, *, tile, activation="silu", width=None, mask=None):
    """`moe.oracle` with the two scales; the hidden states are quantised over `width` columns, by default the row."""
    x, w1, w2 = args["hidden_states"].astype(np.float64), args["w1"], args["w2"]
    inter, ids = w2.shape[2], moe.local(args["topk_ids"], len(w1), mask)
    out = np.zeros((len(x), w2.shape[1]))
    for e in range(len(w1)):
        token, slot = np.nonzero(ids == e)
        if not len(token):
            continue
        xe = moe.requantised(x[token] * before[e], w1.dtype, width or x.shape[1])
        h = xe @ moe.dequantised(w1[e : e + 1], args["w1_scale"][e : e + 1])[0].T
        middle = moe.requantised(moe.activate(activation, h[:, :inter]) * h[:, inter:] * between[e], w1.dtype, tile)
        part = middle @ moe.dequantised(w2[e : e + 1], args["w2_scale"][e : e + 1])[0].T
        np.add.at(out, token, part * args["topk_weight"][token, slot].astype(np.float64)[:, None])
    return out


def check(arch, shape, kind, *, a16, hidden="bfloat16", activation="silu", kernel=None, ids=None, mask=None):
    args, before, between = arguments(arch, shape, kind, hidden, ids)
    arrays = {NAMES.get(n, n): x for n, x in moe.on_device(args).items()}
    arrays |= {"fc1_smooth_scale": jnp.asarray(before), "fc2_smooth_scale": jnp.asarray(between)}
    if mask is not None:
        arrays["expert_mask"] = jnp.asarray(mask)

    def call(arrays):
        return jax_aiter.asm_moe(**arrays, a16=a16, activation=activation, implementation="asm", kernel=kernel)

    with common.running(call, arrays) as out:
        tile = int(common.selected(call, arrays).symbol.rstrip("E").rpartition("x")[2])
        width = STEP if a16 else None
        if a16:  # what the kernels read, with float16 output too
            args["hidden_states"] = np.asarray(jnp.asarray(args["hidden_states"], jnp.bfloat16))
        moe.assert_agrees(out, oracle(args, before, between, tile=tile, activation=activation, width=width, mask=mask))


@pytest.mark.parametrize("tokens", [1, 31, 33, 257])
@pytest.mark.parametrize("kind", ["Fp8", "Int8"])
def test_token_counts(arch, kind, tokens):
    check(arch, moe.Shape(tokens=tokens), kind, a16=False)


@pytest.mark.parametrize(("kind", "inter"), [("Fp8", 320), ("Int8", 256)])
@pytest.mark.parametrize("tokens", [1, 33])
def test_quantised_inside(arch, kind, inter, tokens):
    check(arch, moe.Shape(tokens=tokens, inter=inter), kind, a16=True)


@pytest.mark.parametrize("a16", [False, True])
def test_ids_of_nobody_and_masks(arch, a16):
    ids = np.random.default_rng(1).integers(-1, 5, (33, 2))
    check(arch, moe.Shape(inter=320), "Fp8", a16=a16, ids=ids)
    mask = np.array([0, 1, 0, 1, 1, 0, 1], np.int32)
    ids = np.random.default_rng(2).integers(0, 7, (33, 2))
    check(arch, moe.Shape(inter=320), "Fp8", a16=a16, ids=ids, mask=mask)


@pytest.mark.parametrize("table", range(8))
def test_tables(arch, table):
    """A third of the kernels with smooth scales."""
    sweep(arch, table, slice(table % 3, None, 3))


@pytest.mark.exhaustive
@pytest.mark.parametrize("table", range(8))
def test_tables_whole(arch, table):
    sweep(arch, table, slice(None))


def sweep(arch, table, part):
    act, out, kind = [(a, o, k) for a in ("silu", "gelu") for o in ("bf16", "fp16") for k in ("Fp8", "Int8")][table]
    rows = common.rows("asm_moe", arch, f"fmoe/{act}/fmoe_{out}_pertoken{kind}_g1u1_{act}.csv")
    found = sorted((r for r in rows if r["smf"]), key=lambda r: (r["smf"], r["subGU_n"], r.symbol))
    assert found
    for row in found[part]:
        hidden = {"bf16": "bfloat16", "fp16": "float16"}[out]
        shape = moe.Shape(inter=row.number("subGU_n"), dim=512)
        check(arch, shape, kind, a16=row["smf"] == 1, hidden=hidden, activation=moe.named(act), kernel=row.symbol)


@pytest.mark.parametrize("count", [8, pytest.param(92, marks=pytest.mark.exhaustive)])
def test_random_calls(arch, count):
    rng = np.random.default_rng(count)
    for _ in range(count):
        kind, a16, experts = ("Fp8", "Int8")[rng.integers(2)], bool(rng.integers(2)), int(rng.integers(1, 6))
        tile = int(rng.choice(A16_TILES[kind] if a16 else (128, 192, 256, 320)))
        topk = int(rng.integers(1, experts + 1))
        shape = moe.Shape(int(rng.integers(1, 60)), experts, topk, 512 * int(rng.integers(1, 3)), tile * int(rng.integers(1, 3)))
        ids = rng.integers(-1, experts, (shape.tokens, topk))
        check(arch, shape, kind, a16=a16, activation=("silu", "gelu_tanh")[rng.integers(2)], ids=ids)


def test_without_smooth_scales_it_is_fused_moe(arch):
    args, *_ = arguments(arch, moe.Shape(), "Fp8")
    arrays = {NAMES.get(n, n): x for n, x in moe.on_device(args).items()}
    out = jax.jit(lambda a: jax_aiter.asm_moe(**a, implementation="asm"))(arrays)
    kernel = common.selected(lambda a: jax_aiter.asm_moe(**a, implementation="asm"), arrays)
    moe.assert_agrees(out, moe.oracle(args, tile=int(re.findall(r"x(\d+)E", kernel.symbol)[0])))


@pytest.mark.parametrize(
    ("shape", "a16", "rule"),
    [
        (moe.Shape(dim=256), False, "D = 256"),
        (moe.Shape(inter=96), False, "I = 96; must be a multiple of"),
        (moe.Shape(inter=128), True, "I = 128; must be a multiple of"),
    ],
)
def test_refused(arch, shape, a16, rule):
    struct = jax.ShapeDtypeStruct
    arrays = {NAMES.get(n, n): x for n, x in moe.structs(shape, np.dtype(moe.FP8[arch]), "per_token").items()}
    arrays["fc1_smooth_scale"] = struct((shape.experts, shape.dim), jnp.float32)
    arrays["fc2_smooth_scale"] = struct((shape.experts, shape.inter), jnp.float32)
    with pytest.raises(NotSupportedError, match=rule):
        jax.jit(lambda a: jax_aiter.asm_moe(**a, a16=a16, implementation="asm")).lower(arrays)


def test_limits_are_those_of_the_tables(arch):
    """Every kernel with smooth scales agrees, so none of them is on the list of defects."""
    for act in ("silu", "gelu"):
        for row in common.rows("asm_moe", arch, f"fmoe/{act}/fmoe_bf16_pertokenFp8_g1u1_{act}.csv"):
            assert not row["smf"] or limits.defect(row) is None
