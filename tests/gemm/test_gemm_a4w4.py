"""The MXFP4 products' reference against float64, with scales in both orders and a bias; every product is exact in float32.

K additions err by at most K · 2^-24 · Σ|a||b|, and the result rounds once.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from tests.quant import mx


def drawn(m, n, k):
    rng = np.random.default_rng(k)
    a, b = (rng.integers(0, 256, (rows, k // 2), dtype=np.uint8) for rows in (m, n))
    return a, b, *(rng.integers(110, 140, (rows, k // 32), dtype=np.uint8) for rows in (m, n)), rng.standard_normal(n) * 100


@pytest.mark.parametrize("order", ["plain", "shuffled", "shuffled scales"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 64), (5, 272, 320)])
def test_products(order, m, n, k):
    a, b, a_scale, b_scale, bias = drawn(m, n, k)
    given = {"bias": jnp.asarray(bias, jnp.float32), "out_dtype": jnp.bfloat16}
    if order == "plain":
        y = jax_aiter.gemm_a4w4(a, b, a_scale, b_scale, **given)
    else:
        scale = jax_aiter.e8m0_shuffle(b_scale) if "scales" in order else b_scale
        y = jax_aiter.gemm_a4w4_bpreshuffle(a, jax_aiter.shuffle_weight(b), a_scale, scale, **given)
    left, right = mx.dequantised(a, a_scale), mx.dequantised(b, b_scale)
    want, size = left @ right.T + bias, np.abs(left) @ np.abs(right).T + np.abs(bias)
    error = np.abs(np.asarray(y).astype(np.float64) - want)
    assert (error <= (k + 2) * 2.0**-24 * size + 2.0**-8 * np.abs(want)).all()


def test_quantised_operands_stand_for_what_was_quantised():
    """x and w within half a step of fp4, a quarter of the magnitude or of the scale: so their product is as near."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((rows, 128)).astype(np.float32) for rows in (4, 32))
    (a, a_scale), (b, b_scale) = (jax_aiter.dynamic_mxfp4_quant(v) for v in (x, w))
    got = np.asarray(jax_aiter.gemm_a4w4(a, b, a_scale, b_scale, out_dtype=jnp.float32))
    steps = [
        np.maximum(np.abs(v) / 4, 0.25 * np.repeat(mx.e8m0(s), 32, -1)) + (np.abs(v) > 5.9) for v, s in ((x, a_scale), (w, b_scale))
    ]
    bound = steps[0] @ np.abs(w).T + np.abs(x) @ steps[1].T + steps[0] @ steps[1].T
    assert (np.abs(got - x @ w.T) <= bound + 1e-4).all()


def test_errors_name_the_argument():
    a, b, a_scale, b_scale, _ = drawn(2, 32, 64)
    with pytest.raises(TypeError, match="B must be a ShuffledWeight"):
        jax_aiter.gemm_a4w4_bpreshuffle(a, b, a_scale, b_scale)
    with pytest.raises(ValueError, match="A_scale has 2 columns, must be one per 32 of the 128"):
        jax_aiter.gemm_a4w4(np.tile(a, 2), np.tile(b, 2), a_scale, b_scale)
    scale = jax_aiter.e8m0_shuffle(np.tile(b_scale, 5))
    with pytest.raises(ValueError, match=r"B_scale has shape \(256, 16\), must be \(256, 8\)"):
        jax_aiter.gemm_a4w4_bpreshuffle(a, jax_aiter.shuffle_weight(b), a_scale, scale)
    with pytest.raises(ValueError, match="splitK must be one of"):
        jax_aiter.gemm_a4w4_bpreshuffle(a, jax_aiter.shuffle_weight(b), a_scale, b_scale, splitK=3)
