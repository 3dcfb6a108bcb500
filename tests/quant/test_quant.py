"""Quantisation against PyTorch's own fp8 and int8 conversions.

With the scale given the values must agree bit for bit: a float32 reciprocal, a product and one rounding are all fully specified,
and are what AITER does. A dynamic scale is a maximum (exact) and one product with the rounded reciprocal of the largest value.
Nothing is added, so no processor contracts or reorders anything: the comparisons here are exact, those of vmapped calls too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from jax_aiter import group_quant, per_tensor_quant, per_token_quant
from tests.oracle import LOOPS, draw, primitives

TORCH = {"float8_e4m3fnuz": torch.float8_e4m3fnuz, "float8_e4m3fn": torch.float8_e4m3fn, "int8": torch.int8}
MAX = {"float8_e4m3fnuz": 240.0, "float8_e4m3fn": 448.0, "int8": 127.0}


def torch_quantise(x, scale, dtype):
    """Multiply by the reciprocal in float32, clamp, round (fp8 to nearest even, int8 to zero); the bits as uint8."""
    x, scale = (torch.tensor(np.asarray(a.astype(jnp.float32))) for a in (x, scale))
    y = (x * (1 / scale)).clamp(-MAX[dtype], MAX[dtype])
    y = y.trunc().to(torch.int8) if dtype == "int8" else y.to(TORCH[dtype])
    return y.view(torch.uint8).numpy()


def bits(x):
    return np.asarray(x).view(np.uint8)


def dynamic_scale(x, dtype, axis):
    return np.abs(np.asarray(x.astype(jnp.float32))).max(axis, keepdims=True) * np.float32(1 / MAX[dtype])


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("source", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 127), (3, 128), (129, 129), (2, 3, 5)])
def test_per_token(shape, source, dtype):
    x = draw(0, *shape, dtype=source, std=3.0)
    xq, scale = per_token_quant(x, quant_dtype=dtype)
    assert xq.dtype == dtype
    assert (np.asarray(scale) == dynamic_scale(x, dtype, -1)).all()
    assert (bits(xq) == torch_quantise(x, scale, dtype)).all()


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("shape", [(1, 1), (5, 33), (2, 3, 128)])
def test_per_tensor(shape, dtype):
    x = draw(0, *shape, std=3.0)
    xq, scale = per_tensor_quant(x, quant_dtype=dtype)
    assert (np.asarray(scale) == dynamic_scale(x, dtype, None).ravel()).all()
    assert (bits(xq) == torch_quantise(x, scale, dtype)).all()


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_group(group_size, dtype):
    x = draw(0, 5, 3 * group_size, dtype="bfloat16")
    xq, scale = group_quant(x, quant_dtype=dtype, group_size=group_size)
    grouped = x.reshape(5, 3, group_size)
    assert (np.asarray(scale) == dynamic_scale(grouped, dtype, -1)[..., 0]).all()
    assert (bits(xq).reshape(grouped.shape) == torch_quantise(grouped, scale[..., None], dtype)).all()
    same, transposed = group_quant(x, quant_dtype=dtype, group_size=group_size, transpose_scale=True)
    assert (bits(same) == bits(xq)).all()
    assert (transposed == scale.T).all()


@pytest.mark.parametrize("dtype", TORCH)
def test_static_scale_saturates_and_rounds(dtype):
    top = MAX[dtype]
    x = jnp.asarray([[0.5, 1.5, 2.5, -0.5, -2.5, top, top * 1.01, 1e9, -1e9, jnp.inf, -jnp.inf, 2.0**-11, 3e-6, -0.0]])
    xq, scale = per_tensor_quant(x, quant_dtype=dtype, scale=jnp.ones(1))
    assert (bits(xq) == torch_quantise(x, scale, dtype)).all()
    assert np.asarray(xq).astype(np.float32)[0, 5:11].tolist() == [top, top, top, -top, top, -top]


@pytest.mark.parametrize("dtype", TORCH)
def test_static_scale_of_every_kind(dtype):
    x = draw(0, 4, 64, std=100.0)
    for quant, shape in ((per_tensor_quant, (1,)), (per_token_quant, (4, 1))):
        given = jnp.exp(draw(1, *shape))
        xq, scale = quant(x, quant_dtype=dtype, scale=given)
        assert (scale == given).all()
        assert (bits(xq) == torch_quantise(x, given, dtype)).all()
    given = jnp.exp(draw(1, 2, 4))
    xq, scale = group_quant(x, quant_dtype=dtype, scale=given, group_size=32, transpose_scale=True)
    assert (scale == given).all()
    assert (bits(xq) == torch_quantise(x.reshape(4, 2, 32), given.T[..., None], dtype).reshape(4, 64)).all()


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("tiny", [0.0, -0.0, 1e-45, 1e-38, 9e-11, 2e-10])
def test_the_largest_magnitude_counts_as_at_least_1e_10(tiny, dtype):
    """AITER's floor: the scale of zeros is one positive normal number; above the floor (2e-10) nothing changes."""
    x = jnp.full((2, 64), tiny, jnp.float32).at[1].set(1.0)
    expect = np.maximum(np.float32(tiny), np.float32(1e-10)) * np.float32(1 / MAX[dtype])
    assert expect >= np.finfo(np.float32).tiny
    for xq, scale in (per_token_quant(x, quant_dtype=dtype), group_quant(x, quant_dtype=dtype, group_size=64)):
        assert np.asarray(scale)[0, 0] == expect
        assert (bits(xq) == torch_quantise(x, scale, dtype)).all()
        assert (np.asarray(xq).astype(np.float32)[1] >= MAX[dtype] - 1).all()  # 127 * (1 / 127) truncates to 126 or 127
    xq, scale = per_tensor_quant(x[:1], quant_dtype=dtype)
    assert np.asarray(scale) == [expect]
    assert (bits(xq) == torch_quantise(x[:1], scale, dtype)).all()


@pytest.mark.parametrize("dtype", ["float8_e4m3fnuz", "float8_e4m3fn"])
def test_nan_shows(dtype):
    x = draw(0, 3, 64).at[1, 5].set(jnp.nan)
    xq, scale = per_token_quant(x, quant_dtype=dtype)
    assert np.isnan(np.asarray(scale)[:, 0]).tolist() == [False, True, False]
    assert np.isfinite(np.asarray(xq).astype(np.float32)[[0, 2]]).all()
    xq, _ = per_token_quant(x, quant_dtype=dtype, scale=jnp.ones((3, 1)))
    assert np.argwhere(np.isnan(np.asarray(xq).astype(np.float32))).tolist() == [[1, 5]]


def test_fp8_is_the_targets():
    x = draw(0, 2, 32)
    for arch, name in (("gfx942", "float8_e4m3fnuz"), ("gfx950", "float8_e4m3fn")):
        with jax_aiter.config(arch=arch):
            assert per_token_quant(x, quant_dtype="fp8")[0].dtype == name
            other = next(n for n in MAX if n not in (name, "int8"))
            with pytest.raises(TypeError, match=f"quant_dtype is {other}, but {arch} computes in {name}"):
                per_token_quant(x, quant_dtype=other)


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("scaled", [None, "shared", "batched"])
def test_vmap_quantises_each_element_alone_without_a_loop(scaled, dtype):
    x = draw(0, 3, 4, 64) * jnp.asarray([0.1, 1.0, 10.0])[:, None, None]
    cases = [(per_tensor_quant, {}, (1,)), (per_token_quant, {}, (4, 1)), (group_quant, {"group_size": 32}, (4, 2))]
    cases.append((group_quant, {"group_size": 32, "transpose_scale": True}, (2, 4)))
    for quant, options, shape in cases:
        scale = None if scaled is None else jnp.exp(draw(1, *((3, *shape) if scaled == "batched" else shape)))

        def one(x, scale, quant=quant, options=options):
            return quant(x, quant_dtype=dtype, scale=scale, **options)

        mapped = jax.vmap(one, in_axes=(0, 0 if scaled == "batched" else None))
        assert not primitives(mapped, x, scale) & LOOPS
        xq, got = mapped(x, scale)
        for i in range(3):
            want, want_scale = one(x[i], scale[i] if scaled == "batched" else scale)
            assert (bits(xq[i]) == bits(want)).all()
            if scaled != "shared":
                assert (got[i] == want_scale).all()


def test_errors_name_argument_and_rule():
    x = draw(0, 4, 96)
    with pytest.raises(ValueError, match=r"dimension 1 of x \(D\) is 96, must be a multiple of 128"):
        group_quant(x)
    with pytest.raises(ValueError, match=r"group_size must be one of \[32, 64, 128\], got 48"):
        group_quant(x, group_size=48)
    with pytest.raises(ValueError, match="x must have 2 dimensions"):
        group_quant(x[None], group_size=32, transpose_scale=True)
    with pytest.raises(ValueError, match=r"scale has shape \(4, 2\), must be \[..., D/group_size\] = \(4, 3\)"):
        group_quant(x, group_size=32, scale=jnp.ones((4, 2)))
    with pytest.raises(ValueError, match="quant_dtype must be float8_e4m3fnuz or float8_e4m3fn or int8, got uint8"):
        per_token_quant(x, quant_dtype="uint8")


def test_small_negative_numbers_are_no_nan_in_a_loop():
    """fnuz has no -0: its code is NaN (jaxlib 0.12 makes it, in loops on a CPU)."""
    x = jnp.asarray(np.outer([1.0, -1.0], np.concatenate([[100.0], 2.0 ** -np.arange(150)])), jnp.float32)
    scanned = jax.lax.scan(lambda c, row: (c, per_token_quant(row[None], quant_dtype=jnp.float8_e4m3fnuz)[0][0]), 0, x)[1]
    got = np.asarray(scanned).astype(np.float64)
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got[0], -got[1])
