"""The quantised GEMMs against float64 products of the exact operand values.

fp8 products are exact in float32, so the error is that of K float32 additions and of two scale factors: (K + 4) · 2^-24 of the sum
of magnitudes; then one rounding. int8 accumulates in int32 and has no error before its scales.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import batched_gemm_a8w8, gemm_a8w8, gemm_a8w8_blockscale
from tests.oracle import LOOPS, ROUNDOFF, assert_same, assert_within, draw, f64, primitives

FAMILIES = {"gfx942": jnp.float8_e4m3fnuz, "gfx950": jnp.float8_e4m3fn}
U = ROUNDOFF["float32"]


def quantised(seed, *shape, dtype):
    if jnp.dtype(dtype) == jnp.int8:
        return jnp.asarray(np.random.default_rng(seed).integers(-127, 128, shape), jnp.int8)
    return draw(seed, *shape, std=60.0).clip(-240, 240).astype(dtype)


def scales(seed, *shape):
    return jnp.exp(draw(seed, *shape))


@pytest.mark.parametrize("dtype", [*FAMILIES.values(), jnp.int8])
@pytest.mark.parametrize("out_dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (1, 129, 128), (127, 3, 129), (5, 128, 127)])
def test_per_token(m, n, k, dtype, out_dtype):
    x, w, xs, ws, bias = (
        quantised(0, m, k, dtype=dtype),
        quantised(1, n, k, dtype=dtype),
        scales(2, m, 1),
        scales(3, n, 1),
        draw(4, n),
    )
    xs = xs * 1e-4  # keeps float16 outputs finite
    y = gemm_a8w8(x, w, xs, ws, bias=bias, out_dtype=out_dtype)
    factor = f64(xs) * f64(ws).T
    want = f64(x) @ f64(w).T * factor + f64(bias)
    assert_within(y, want, (k + 4) * U * (np.abs(f64(x)) @ np.abs(f64(w)).T * factor + np.abs(f64(bias))))


def test_int8_accumulates_exactly():
    """1100 · 127² passes 2^24: a float32 accumulator would have rounded."""
    x = jnp.full((2, 1100), 127, jnp.int8).at[1, ::2].set(-127).at[1, 0].set(1)
    one = jnp.ones((2, 1))
    y = gemm_a8w8(x, x, one, one, out_dtype="float32")
    exact = np.asarray(x).astype(np.int64) @ np.asarray(x).astype(np.int64).T
    assert (np.asarray(y) == exact.astype(np.float32)).all()  # an exact sum, rounded once; scales of 1 change nothing


@pytest.mark.parametrize("dtype", [*FAMILIES.values(), jnp.int8])
def test_batched(dtype):
    x, w = quantised(0, 3, 5, 33, dtype=dtype), quantised(1, 3, 7, 33, dtype=dtype)
    xs, ws, bias = scales(2, 3, 5, 1), scales(3, 3, 7, 1), draw(4, 3, 7)
    factor = f64(xs) * f64(ws).swapaxes(1, 2)
    size = np.abs(f64(x)) @ np.abs(f64(w)).swapaxes(1, 2) * factor + np.abs(f64(bias))[:, None]
    want = f64(x) @ f64(w).swapaxes(1, 2) * factor + f64(bias)[:, None]
    assert_within(batched_gemm_a8w8(x, w, xs, ws, bias=bias), want, 37 * U * size)


def dequantised(x, w, xs, ws):
    wide = np.repeat(np.repeat(f64(ws), 128, 0)[: w.shape[0]], 128, 1)
    return f64(x) * np.repeat(f64(xs), 128, 1), f64(w) * wide


@pytest.mark.parametrize("dtype", [*FAMILIES.values(), jnp.int8])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 128), (5, 127, 256), (3, 128, 384), (129, 129, 128), (2, 257, 256)])
def test_blockscale(m, n, k, dtype):
    x, w = quantised(0, m, k, dtype=dtype), quantised(1, n, k, dtype=dtype)
    xs, ws = scales(2, m, k // 128), scales(3, -(-n // 128), k // 128)
    a, b = dequantised(x, w, xs, ws)
    assert_within(gemm_a8w8_blockscale(x, w, xs, ws), a @ b.T, (k + 4) * U * np.abs(a) @ np.abs(b).T)


def test_blockscale_holds_no_dequantised_weight():
    m, n, k = 8, 1024, 4096
    args = (quantised(0, m, k, dtype=jnp.float8_e4m3fn), quantised(1, n, k, dtype=jnp.float8_e4m3fn), scales(2, m, k // 128))
    args = (*args, scales(3, n // 128, k // 128))
    scratch = jax.jit(gemm_a8w8_blockscale).lower(*args).compile().memory_analysis().temp_size_in_bytes
    assert scratch < 1.25 * n * k  # the bytes once more, for the bitcast; a bfloat16 copy of the weight would be 2 * n * k


@pytest.mark.parametrize(
    "names", [("xq", "x_scale"), ("wq", "w_scale"), ("xq", "wq", "x_scale", "w_scale"), ("xq", "w_scale"), ("x_scale",)]
)
def test_vmap_is_one_product(names):
    make = {"xq": (5, 33), "wq": (7, 33), "x_scale": (5, 1), "w_scale": (7, 1)}
    args = {}
    for i, (name, shape) in enumerate(make.items()):
        shape = (3, *shape) if name in names else shape
        args[name] = scales(i, *shape) if "scale" in name else quantised(i, *shape, dtype=jnp.float8_e4m3fnuz)
    mapped = jax.vmap(lambda *a: gemm_a8w8(*a, out_dtype="float32"), in_axes=tuple(0 if n in names else None for n in make))
    assert not primitives(mapped, *args.values()) & LOOPS
    x, w, xs, ws = (f64(a) if n in names else f64(a)[None] for n, a in args.items())
    factor = xs * ws.swapaxes(1, 2)
    bound = 37 * U * np.abs(x) @ np.abs(w).swapaxes(1, 2) * factor
    assert_within(mapped(*args.values()), x @ w.swapaxes(1, 2) * factor, bound)


def test_blockscale_vmap_over_weights_is_one_product_where_blocks_stay_whole():
    x, xs = quantised(0, 2, 128, dtype=jnp.int8), scales(1, 2, 1)
    w, ws = quantised(2, 3, 256, 128, dtype=jnp.int8), scales(3, 3, 2, 1)
    mapped = jax.vmap(gemm_a8w8_blockscale, in_axes=(None, 0, None, 0))
    assert not primitives(mapped, x, w, xs, ws) & LOOPS
    one_by_one = jnp.stack([gemm_a8w8_blockscale(x, w[i], xs, ws[i]) for i in range(3)])
    assert_same(mapped(x, w, xs, ws), one_by_one)


@pytest.mark.parametrize("arch", FAMILIES)
def test_nan_reaches_its_row_only(arch):
    x = quantised(0, 4, 128, dtype=FAMILIES[arch])
    x = x.at[2, 7].set(jnp.nan)
    w, one = quantised(1, 5, 128, dtype=FAMILIES[arch]), jnp.ones((5, 1))
    with jax_aiter.config(arch=arch):
        for y in (gemm_a8w8(x, w, one[:4], one), gemm_a8w8_blockscale(x, w, one[:4], one[:1])):
            assert (np.isnan(f64(y)).all(1) == [False, False, True, False]).all()


def test_errors_name_argument_and_rule():
    x, w, xs, ws = quantised(0, 4, 256, dtype=jnp.int8), quantised(1, 130, 256, dtype=jnp.int8), scales(2, 4, 2), scales(3, 2, 2)
    with pytest.raises(ValueError, match=r"w_scale has shape \(1, 2\), must be \[ceil\(N/128\), K/128\] = \(2, 2\)"):
        gemm_a8w8_blockscale(x, w, xs, ws[:1])
    with pytest.raises(ValueError, match=r"K\) is 200, must be a multiple of 128"):
        gemm_a8w8_blockscale(x[:, :200], w[:, :200], xs, ws)
    with pytest.raises(ValueError, match="dimension 1 of x_scale is 2, must be 1"):
        gemm_a8w8(x, w, xs, scales(3, 130, 1))
    fnuz, ocp = (jnp.zeros((4, 8), d) for d in FAMILIES.values())
    with pytest.raises(TypeError, match="convert one with convert_fp8"):
        gemm_a8w8(fnuz, ocp, scales(2, 4, 1), scales(3, 4, 1))
    with jax_aiter.config(arch="gfx950"), pytest.raises(TypeError, match="gfx950 computes in float8_e4m3fn"):
        gemm_a8w8(fnuz, fnuz, scales(2, 4, 1), scales(3, 4, 1))
