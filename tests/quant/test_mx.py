"""MXFP4 and MXFP8 against the specification in float64 numpy, ml_dtypes' own types and AITER's rules of order.

Everything here is a maximum, a power of two and one rounding, so every comparison is exact.
"""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jax_aiter
from tests.oracle import draw

from . import mx

MODES = ("even", "floor", "ceil", "rceil")
NEIGHBOURS = np.array([0.25, 0.75, 1.25, 1.5, 1.75, 2.0, 2.5, 3.5, 5.0, 6.0, 7.0, 8.0, 0.1, 448.0, 465.0, 464.0])


def drawn(dtype):
    """Blocks of all sizes: normal numbers, halves between elements, zeros, the largest and least that a block may hold."""
    x = np.array(draw(0, 24, 64, std=1.0), np.float64) * np.exp2(np.linspace(-20, 12, 24).round())[:, None]
    x[3, :16] = NEIGHBOURS
    x[4, :16] = -NEIGHBOURS * 2.0**-7
    x[5], x[6, :32], x[7, 40] = 0.0, -0.0, 5.9e4
    x[8, 5], x[9, :] = 1.75 * 2.0**9, np.nextafter(np.float32(1.75), np.float32(1))
    return jnp.asarray(x, dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: jnp.dtype(d).name)
def test_mxfp4_is_what_the_specification_says(dtype, mode):
    x = drawn(dtype)
    packed, scale = jax.jit(lambda x: jax_aiter.dynamic_mxfp4_quant(x, mode))(x)
    want, want_scale = mx.quantised(np.asarray(x).astype(np.float64), "float4_e2m1fn", mode)
    assert packed.dtype == scale.dtype == jnp.uint8
    assert np.array_equal(scale, want_scale)
    got = mx.fp4(packed)
    assert np.array_equal(got, want)
    assert np.array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("element", ["float8_e4m3fn", "float8_e4m3fnuz"])
def test_mxfp8_is_what_the_specification_says(element, mode):
    x = drawn(jnp.float32)
    y, scale = jax.jit(lambda x: jax_aiter.dynamic_mxfp8_quant(x, quant_dtype=element, scaling_mode=mode))(x)
    want, want_scale = mx.quantised(np.asarray(x).astype(np.float64), element, mode)
    assert np.array_equal(scale, want_scale)
    assert np.array_equal(np.asarray(y).astype(np.float64), want)


def test_the_largest_and_least_blocks():
    """Scales end at 0, from which on elements vanish, and below the NaN of 255."""
    big = np.float32(np.finfo(np.float32).max)
    x = np.zeros((5, 32), np.float32)
    x[0], x[1], x[2], x[3, 3], x[4, 3] = big, 2.0**-125, 2.0**-126, np.inf, np.nan
    packed, scale = jax_aiter.dynamic_mxfp4_quant(jnp.asarray(x))
    assert scale[:, 0].tolist() == [253, 0, 0, 255, 255]
    assert np.array_equal(mx.fp4(packed)[:3, 0], [4.0, 4.0, 2.0])
    assert not np.asarray(packed)[3:].any()
    y, scale8 = jax_aiter.dynamic_mxfp8_quant(jnp.asarray(x), quant_dtype=jnp.float8_e4m3fn)
    assert scale8[3:, 0].tolist() == [255, 255]
    assert np.isnan(np.asarray(y[3:]).astype(np.float32)).all()
    assert np.isnan(jax_aiter.mx_dequant(packed, scale)[3:]).all()


@pytest.mark.parametrize("out", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: jnp.dtype(d).name)
def test_every_element_under_every_scale(out):
    """All 256 pairs of elements by all 256 scales, where float32 has a normal number for the product."""
    packed = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 1, 16), (16, 256, 16)).copy()
    scale = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (16, 256, 1)).copy()
    got = np.asarray(jax_aiter.mx_dequant(packed, scale, out_dtype=out)).astype(np.float64)
    with np.errstate(over="ignore"):
        want = mx.dequantised(packed, scale)
        want = want.astype(np.float32).astype(out).astype(np.float64)
    least = float(jnp.finfo(out).tiny)
    told = ~(np.abs(want) < least) | (want == 0)
    assert np.array_equal(got[told], want[told], equal_nan=True)
    # What is subnormal may have been flushed, and is no more than it should be.
    assert (np.abs(got[~told]) <= np.abs(want[~told])).all()


def test_fp8_elements_under_scales():
    x = draw(1, 3, 64).astype(jnp.float8_e4m3fn)
    scale = np.array([[100, 127], [0, 140], [255, 128]], np.uint8)
    got = np.asarray(jax_aiter.mx_dequant(x, scale, out_dtype=jnp.float32)).astype(np.float64)
    want = mx.dequantised(np.asarray(x), scale)
    told = ~(np.abs(want) < 2.0**-126)
    assert np.array_equal(got[told], want[told], equal_nan=True)


def test_ml_dtypes_arrays_have_the_same_bytes():
    """`float4_e2m1fn` and `float8_e8m0fnu` arrays and the bytes that the ops take stand for the same."""
    x = draw(2, 4, 64)
    packed, scale = jax_aiter.dynamic_mxfp4_quant(x)
    grouped = np.asarray(x).reshape(4, 2, 32) / mx.e8m0(scale)[..., None]
    codes = np.clip(grouped, -6, 6).astype(ml_dtypes.float4_e2m1fn).view(np.uint8).reshape(4, 64)
    assert np.array_equal(np.asarray(packed), codes[:, ::2] | codes[:, 1::2] << 4)


@pytest.mark.parametrize(("rows", "groups"), [(1, 1), (255, 8), (256, 9), (257, 7)])
def test_shuffled_scales_lie_where_the_rule_says(rows, groups):
    scale = np.random.default_rng(0).integers(1, 255, (rows, groups), dtype=np.uint8)
    shuffled = jax_aiter.e8m0_shuffle(scale)
    height, width = -(-rows // 256) * 256, -(-groups // 8) * 8
    want = np.zeros(height * width, np.uint8)
    for m, g in np.ndindex(rows, groups):
        place = np.array([m // 32, g // 8, g % 4, m % 16, g % 8 // 4, m % 32 // 16])
        want[np.ravel_multi_index(tuple(place), (height // 32, width // 8, 4, 16, 2, 2))] = scale[m, g]
    assert np.array_equal(shuffled.data, want.reshape(height, width))
    assert np.array_equal(shuffled.unshuffle(rows, groups), scale)


def test_packed_weights_are_shuffled_by_bytes():
    w = np.random.default_rng(1).integers(0, 256, (2, 32, 64), dtype=np.uint8)
    got = np.asarray(jax_aiter.shuffle_weight(w).data).reshape(2, 2, 2, 2, 16, 16)
    for e, n, k in np.ndindex(*w.shape):
        assert got[e, n // 16, k // 32, k % 32 // 16, n % 16, k % 16] == w[e, n, k]


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: jax_aiter.dynamic_mxfp4_quant(jnp.ones((2, 33))),
            ValueError,
            "dimension 1 of x .D. is 33, must be a multiple of 32",
        ),
        (lambda: jax_aiter.dynamic_mxfp4_quant(jnp.ones((2, 32)), "nearest"), ValueError, "scaling_mode must be one of"),
        (lambda: jax_aiter.dynamic_mxfp8_quant(jnp.ones((2, 32)), quant_dtype="int8"), ValueError, "quant_dtype must be one of"),
        (
            lambda: jax_aiter.mx_dequant(jnp.ones((2, 16), jnp.uint8), jnp.ones((2, 2), jnp.uint8)),
            ValueError,
            "scale has 2 columns, must be one per 32 of the 32 that x stands for",
        ),
        (lambda: jax_aiter.mx_dequant(jnp.ones((2, 32)), jnp.ones((2, 1), jnp.uint8)), TypeError, "x has dtype float32"),
    ],
)
def test_errors_name_the_argument(call, error, says):
    with pytest.raises(error, match=says):
        call()
