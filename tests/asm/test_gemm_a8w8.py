"""The 8-bit GEMMs on AITER's hand-written kernels against float64 products of the exact operand values.

int8 accumulates exactly; fp8 products are exact in float32, so K additions err by at most K · 2^-24 · Σ|a||b|, and scales and bias
add a few units more. The kernels that write bfloat16 cut the float32 value off instead of rounding it, so one write errs by less
than an ulp, 2^-7 of the value; with K in parts each part is cut off and the atomic addition of two bfloat16 rounds again, each
time by at most an ulp of the sum of magnitudes. The float16 kernel rounds to nearest.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter import (
    NotSupportedError,
    explain,
    fp8_dtype,
    gemm_a8w8,
    gemm_a8w8_blockscale_bpreshuffle,
    gemm_a8w8_bpreshuffle,
    group_quant,
    shuffle_weight,
)

from . import common

INT8, FP8 = "i8gemm/i8gemm_bf16_perTokenI8.csv", "fp8gemm_blockscale/fp8gemm_bf16_blockscale.csv"
SIZES = [1, 15, 16, 17, 31, 32, 33, 257]


def f64(x):
    return np.asarray(x).astype(np.float64)


def scales(rng, *shape):
    return jnp.asarray(np.exp(rng.standard_normal(shape) * 0.5), jnp.float32)


def within(y, want, size, k, parts):
    ulp = 2.0**-11 if y.dtype == jnp.float16 else 2.0**-7
    bound = (k + 8) * 2.0**-24 * size + ulp * (np.abs(want) if parts == 1 else 2 * size)
    error = np.abs(f64(y) - want)
    assert (error <= bound).all(), f"error {error.max()}, allowed {bound.flat[error.argmax()]}"


def check_int8(m, n, k, *, bias=True, splitK=None, kernel=None, seed=0):
    rng = np.random.default_rng(seed)
    x, w = (jnp.asarray(rng.integers(-127, 128, (rows, k)), jnp.int8) for rows in (m, n))
    xs, ws = scales(rng, m, 1) * 1e-3, scales(rng, n, 1)
    c = jnp.asarray(rng.standard_normal(n) * 50, jnp.float32) if bias else None
    call = functools.partial(gemm_a8w8_bpreshuffle, splitK=splitK, implementation="asm", kernel=kernel)
    args = (x, shuffle_weight(w, implementation="xla"), xs, ws, *(() if c is None else (c,)))
    with common.running(lambda x, w, xs, ws, *c: call(x, w, xs, ws, bias=c[0] if c else None), *args) as y:
        factor, extra = f64(xs) * f64(ws).T, 0 if c is None else f64(c)
        want, size = f64(x) @ f64(w).T * factor + extra, np.abs(f64(x)) @ np.abs(f64(w)).T * factor + np.abs(extra)
        within(y, want, size, 8, splitK or 1)


def check_fp8(m, n, k, *, out=jnp.bfloat16, splitK=None, kernel=None, transpose_scale=False, seed=0):
    rng = np.random.default_rng(seed)
    x, w = (jnp.asarray(rng.standard_normal((rows, k)), jnp.float32).astype(fp8_dtype()) for rows in (m, n))
    xs, ws = scales(rng, m, k // 128), scales(rng, n // 128, k // 128)
    call = functools.partial(
        gemm_a8w8_blockscale_bpreshuffle,
        out_dtype=out,
        splitK=splitK,
        transpose_scale=transpose_scale,
        implementation="asm",
        kernel=kernel,
    )
    with common.running(call, x, shuffle_weight(w, implementation="xla"), xs.T if transpose_scale else xs, ws) as y:
        a = f64(x) * np.repeat(f64(xs), 128, 1)
        b = f64(w) * np.repeat(np.repeat(f64(ws), 128, 0), 128, 1)
        within(y, a @ b.T, np.abs(a) @ np.abs(b).T, k, splitK or 1)


@pytest.mark.parametrize("m", SIZES)
def test_token_counts(m):
    check_fp8(m, 128, 256, transpose_scale=m % 2 == 1)


@pytest.mark.parametrize("m", SIZES)
def test_token_counts_of_int8(m):
    check_int8(m, 128, 256, bias=m % 2 == 1)


@pytest.mark.parametrize("m", [1, 127, 128, 129])
def test_float16_output(arch, m):
    if arch == "gfx942":
        check_fp8(m, 256, 128 if m == 127 else 256, out=jnp.float16, transpose_scale=m == 1)
        check_fp8(5, 512, 512, out=jnp.float16)


def test_every_int8_kernel(arch):
    """One full tile and a ragged one, whole K and K in (uneven) parts where the kernel splits it."""
    for row in common.usable("gemm_a8w8_bpreshuffle", arch, INT8):
        check_int8(row.number("tile_m") + 3, row.number("tile_n"), 384, kernel=row.symbol)
        check_int8(3, row.number("tile_n"), 640, splitK=2 if row["splitK"] else 1, kernel=row.symbol)


def test_every_fp8_kernel(arch):
    for row in common.usable("gemm_a8w8_blockscale_bpreshuffle", arch, FP8):
        check_fp8(row.number("tile_m") + 3, 128, 384, kernel=row.symbol)
        check_fp8(3, 256, 640, splitK=2, kernel=row.symbol)


@pytest.mark.exhaustive
def test_every_kernel_at_more_depths(arch):
    for op, check, table in (
        ("gemm_a8w8_bpreshuffle", check_int8, INT8),
        ("gemm_a8w8_blockscale_bpreshuffle", check_fp8, FP8),
    ):
        for row in common.usable(op, arch, table):
            for k, split in ((128, 1), (256, 2), (1024, 3), (2048, 8), (2048, 16)):
                for m in (1, row.number("tile_m"), 2 * row.number("tile_m") + 1):
                    check(m, row.number("tile_n"), k, splitK=split if row["splitK"] else 1, kernel=row.symbol)


def chosen(m, n, k):
    """The kernel and grid of an int8 call of that size."""
    x, w = jax.ShapeDtypeStruct((m, k), jnp.int8), jax.ShapeDtypeStruct((n, k), jnp.int8)
    xs, ws = jax.ShapeDtypeStruct((m, 1), jnp.float32), jax.ShapeDtypeStruct((n, 1), jnp.float32)

    def call(x, w, xs, ws):
        return gemm_a8w8_bpreshuffle(x, shuffle_weight(w, implementation="xla"), xs, ws, implementation="asm")

    (found,) = [e for e in explain(call, x, w, xs, ws) if e.op == "gemm_a8w8_bpreshuffle"]
    return found.details


def test_tuned_rows_are_found_under_rounded_m(arch):
    common.needs_kernels(arch, [INT8])
    if arch == "gfx942":  # tuned for 304 compute units
        for m in (4096, 4095, 3000):
            assert "112x256" in chosen(m, 1536, 5120)[0]
            assert "tuned row for M = 4096" in chosen(m, 1536, 5120)[2]
        assert "16x128" in chosen(64, 5120, 1280)[0]
    assert "heuristic" in chosen(64, 5120, 1152)[2]


def test_scales_straight_from_group_quant(arch):
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.standard_normal((9, 256)), jnp.bfloat16)
    w = jnp.asarray(rng.standard_normal((128, 256)), jnp.float32).astype(fp8_dtype())
    ws, shuffled = scales(rng, 1, 2), shuffle_weight(w, implementation="xla")

    @jax.jit
    def layer(x, w, ws):
        xq, xs = group_quant(x, transpose_scale=True, implementation="xla")
        return gemm_a8w8_blockscale_bpreshuffle(xq, w, xs, ws, transpose_scale=True, implementation="asm"), xq, xs

    y, xq, xs = layer(x, shuffled, ws)
    a, b = f64(xq) * np.repeat(f64(xs).T, 128, 1), f64(w) * np.repeat(f64(ws), 128, 1)
    within(y, a @ b.T, np.abs(a) @ np.abs(b).T, 256, 1)


def lower(op, m=4, n=256, k=256, dtype=jnp.int8, out=jnp.bfloat16, bias=None, layout=(16, 16), **options):
    x, w = jax.ShapeDtypeStruct((m, k), dtype), jax.ShapeDtypeStruct((n, k), dtype)
    block = op is gemm_a8w8_blockscale_bpreshuffle
    xs = jax.ShapeDtypeStruct((m, k // 128 if block else 1), jnp.float32)
    ws = jax.ShapeDtypeStruct((-(-n // 128) if block else n, k // 128 if block else 1), jnp.float32)
    more = {} if bias is None else {"bias": jnp.zeros(n, bias)}
    plain = op is gemm_a8w8

    def call(x, w, xs, ws):
        w = w if plain else shuffle_weight(w, layout=layout, implementation="xla")
        return op(x, w, xs, ws, out_dtype=out, implementation="asm", **more, **options)

    jax.jit(call).lower(x, w, xs, ws)


REFUSED = [
    (gemm_a8w8, {}, "wq is in plain order"),
    (gemm_a8w8_bpreshuffle, {"dtype": "fp8"}, "xq has dtype float8_e4m3"),
    (gemm_a8w8_bpreshuffle, {"out": jnp.float16}, "out_dtype = float16"),
    (gemm_a8w8_bpreshuffle, {"bias": jnp.bfloat16}, "bias has dtype bfloat16"),
    (gemm_a8w8_bpreshuffle, {"k": 192}, "K = 192; the kernels take multiples of 128"),
    (gemm_a8w8_bpreshuffle, {"n": 192}, "N = 192; the kernels take multiples of 128"),
    (gemm_a8w8_bpreshuffle, {"splitK": 5}, "splitK = 5; K = 256 in parts of whole 128 is 2 parts"),
    (gemm_a8w8_bpreshuffle, {"m": 0}, "xq is empty"),
    (gemm_a8w8_bpreshuffle, {"m": 1 << 21, "k": 2048}, "xq has 4294967296 bytes"),
    (gemm_a8w8_bpreshuffle, {"kernel": "nothing"}, "kernel = 'nothing'"),
    (gemm_a8w8_blockscale_bpreshuffle, {}, "xq has dtype int8"),
    (gemm_a8w8_blockscale_bpreshuffle, {"dtype": "fp8", "out": jnp.float32}, "out_dtype = float32"),
    (gemm_a8w8_blockscale_bpreshuffle, {"dtype": "fp8", "n": 144}, "N = 144; the kernels take multiples of 128"),
    (gemm_a8w8_blockscale_bpreshuffle, {"dtype": "fp8", "k": 640, "splitK": 4}, "splitK = 4; K = 640 in parts of whole 128 is 3"),
    (gemm_a8w8_blockscale_bpreshuffle, {"dtype": "fp8", "kernel": "nothing"}, "kernel = 'nothing'"),
]


@pytest.mark.parametrize(("op", "change", "rule"), REFUSED)
def test_refusals(op, change, rule):
    dtype = fp8_dtype() if change.get("dtype") else jnp.int8
    with pytest.raises(NotSupportedError, match=rule):
        lower(op, **{**change, "dtype": dtype})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"n": 128}, "N = 128; the float16 kernel takes multiples of 256"),
        ({"k": 384}, "K = 384; the float16 kernel takes 128 and multiples of 256"),
        ({"splitK": 2}, "splitK = 2; the float16 kernel does not split K"),
    ],
)
def test_refusals_of_the_float16_kernel(arch, change, rule):
    rule = rule if arch == "gfx942" else "this release of AITER has no hand-written kernel that writes it on gfx950"
    with pytest.raises(NotSupportedError, match=rule):
        lower(gemm_a8w8_blockscale_bpreshuffle, dtype=fp8_dtype(), out=jnp.float16, **change)


@pytest.mark.parametrize("op", [gemm_a8w8_bpreshuffle, gemm_a8w8_blockscale_bpreshuffle])
def test_a_wrong_layout_is_an_error(op):
    with pytest.raises(ValueError, match=r"wq is shuffled with layout \(32, 16\), must be \(16, 16\)"):
        lower(op, layout=(32, 16))


@pytest.mark.parametrize("count", [10, pytest.param(90, marks=pytest.mark.exhaustive)])
def test_random_calls(count):
    rng = np.random.default_rng(count)
    for _ in range(count):
        m, n, k = int(rng.integers(1, 200)), 128 * int(rng.integers(1, 3)), 128 * int(rng.integers(1, 5))
        split = next(s for s in (int(rng.integers(1, 5)), 1) if -(-k // (128 * -(-k // s // 128))) == s)
        check_int8(m, n, k, bias=bool(rng.integers(2)), splitK=split, seed=int(rng.integers(1000)))
        check_fp8(m, n, k, splitK=split, transpose_scale=bool(rng.integers(2)), seed=int(rng.integers(1000)))


@pytest.mark.skipif(len(jax.devices()) < 2, reason="needs two devices")
def test_two_devices():
    """Under plain jit, XLA splits the call over tokens; the weight stays whole."""
    m, n, k = 8, 128, 256
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal((rows, k)), jnp.float32).astype(fp8_dtype()) for rows in (m, n))
    xs, ws = scales(rng, m, 2), scales(rng, 1, 2)
    tokens = jax.sharding.NamedSharding(jax.make_mesh((2,), ("x",)), jax.sharding.PartitionSpec("x"))
    call = jax.jit(functools.partial(gemm_a8w8_blockscale_bpreshuffle, implementation="asm"))
    y = call(jax.device_put(x, tokens), shuffle_weight(w, implementation="xla"), jax.device_put(xs, tokens), ws)
    assert y.sharding.is_equivalent_to(tokens, 2)
    a, b = f64(x) * np.repeat(f64(xs), 128, 1), f64(w) * np.repeat(f64(ws), 128, 1)
    within(y, a @ b.T, np.abs(a) @ np.abs(b).T, k, 1)
