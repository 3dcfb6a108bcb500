"""Products of fp8 and of float activations with MXFP4 weights, against float64 and the specification's own rounding.

Every product of two values is exact in float32: K additions err by at most K · 2^-24 · Σ|a||b|, and the result rounds once.
"""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jax_aiter
from tests.quant import mx

OPS = ("gemm_a8wfp4", "gemm_a16wfp4", "batched_gemm_a16wfp4")


def drawn(*lead, m, n, k):
    rng = np.random.default_rng(k)
    x = rng.standard_normal((*lead, m, k)) * np.exp2(rng.integers(-9, 9, (*lead, m, 1)))
    w = rng.integers(0, 256, (*lead, n, k // 2), dtype=np.uint8)
    return np.float32(x), w, rng.integers(110, 140, (*lead, n, k // 32), dtype=np.uint8)


def check(y, left, right, k, scale=1.0):
    left, right = np.float64(left), np.swapaxes(right, -1, -2)
    want, size = left @ right * scale, np.abs(left) @ np.abs(right) * scale
    error = np.abs(np.asarray(y).astype(np.float64) - want)
    assert (error <= (k + 2) * 2.0**-24 * size + 2.0**-8 * np.abs(want)).all()


@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 64), (5, 37, 320)])
def test_fp8_activations(m, n, k):
    x, w, scales = drawn(m=m, n=n, k=k)
    x, x_scales = x.astype(ml_dtypes.float8_e4m3fn), np.float32(np.random.default_rng(0).uniform(0.5, 2, (m, 1)))
    for given in (x_scales, x_scales[:, 0]):
        check(jax_aiter.gemm_a8wfp4(x, w, given, scales), x, mx.dequantised(w, scales), k, x_scales.astype(np.float64))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_float_activations(dtype):
    x, w, scales = drawn(m=5, n=37, k=320)
    x = np.asarray(jnp.asarray(x, dtype))
    values, own = mx.quantised(x.astype(np.float64), "float4_e2m1fn", "even")
    left = values * np.repeat(mx.e8m0(own), 32, -1)
    check(jax_aiter.gemm_a16wfp4(x, w, scales), left, mx.dequantised(w, scales), 320)
    packed, own = jax_aiter.dynamic_mxfp4_quant(x)
    check(jax_aiter.gemm_a4w4(packed, w, own, scales), left, mx.dequantised(w, scales), 320)


@pytest.mark.parametrize("transpose_bm", [False, True])
def test_a_batch(transpose_bm):
    x, w, scales = drawn(3, m=4, n=21, k=96)
    values, own = mx.quantised(x.astype(np.float64), "float4_e2m1fn", "even")
    left, right = values * np.repeat(mx.e8m0(own), 32, -1), mx.dequantised(w, scales)
    y = jax_aiter.batched_gemm_a16wfp4(x, w, scales, transpose_bm=transpose_bm)
    check(np.swapaxes(y, 0, 1) if transpose_bm else y, left, right, 96)
    want = left @ np.swapaxes(right, 1, 2)
    scale = np.float32(np.abs(want).max() / 100)  # some results saturate with an eighth of it
    for part in (1, 8):
        fp8 = {"y_scale": scale / part, "out_dtype": jnp.float8_e4m3fn, "transpose_bm": transpose_bm}
        y = np.asarray(jax_aiter.batched_gemm_a16wfp4(x, w, scales, **fp8)).astype(np.float64)
        near = np.clip(want / (scale / part), -448, 448)
        assert part == 1 or np.abs(near).max() == 448
        step = np.maximum(np.abs(near) / 8, 2.0**-9)
        assert (np.abs((np.swapaxes(y, 0, 1) if transpose_bm else y) - near) <= 0.51 * step).all()


@pytest.mark.parametrize("op", OPS)
def test_leading_axes_and_a_wrong_width(op):
    lead = (2,) if op.startswith("batched") else ()
    x, w, scales = drawn(*lead, m=3, n=8, k=64)
    given = {"x_scales": np.ones((3, 1), np.float32)} if op == "gemm_a8wfp4" else {}
    x = x.astype(ml_dtypes.float8_e4m3fn) if given else x
    call = getattr(jax_aiter, op)
    with pytest.raises(ValueError, match=f"{op}: w_scales has 1 columns, must be one per 32 of the 64 columns|w_scales has 1"):
        call(x, w, w_scales=scales[..., :1], **given)
    with pytest.raises(ValueError, match="of x is 32, must be K = 64, two for each byte of a row of w"):
        call(x[..., :32], w, w_scales=scales, **given)
    if not lead:
        flat = call(x, w, w_scales=scales, **given)
        cube = {n: s[:, None] for n, s in given.items()}
        np.testing.assert_array_equal(call(x[:, None], w, w_scales=scales, **cube)[:, 0], flat)


def test_fp8_results_have_a_scale_and_no_others_do():
    x, w, scales = drawn(2, m=3, n=8, k=64)
    with pytest.raises(ValueError, match="y_scale is None, out_dtype is float8_e4m3fn"):
        jax_aiter.batched_gemm_a16wfp4(x, w, scales, out_dtype=jnp.float8_e4m3fn)
    with pytest.raises(ValueError, match="y_scale is given, out_dtype is bfloat16"):
        jax_aiter.batched_gemm_a16wfp4(x, w, scales, y_scale=np.ones(1, np.float32))
