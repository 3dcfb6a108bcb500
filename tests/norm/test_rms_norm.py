"""rms_norm and rms_norm_with_add against torch in float64, values and autograd.

In float32 the mean of D squares errs by at most (D + 1) units relative, its inverse root by half of that plus 2, and two products
add 2: (D/2 + 6) · 2^-24 of the result. The gradient subtracts a mean over D, so its bound is on the sum of the terms' magnitudes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_aiter import rms_norm, rms_norm_with_add
from tests.oracle import LOOPS, ROUNDOFF, assert_same, assert_within, draw, f64, primitives

DTYPES = ["float32", "bfloat16", "float16"]
SHAPES = [(1, 1), (1, 127), (3, 128), (129, 129), (2, 3, 33)]
EPSILON = 1e-5


def units(d):
    return (d / 2 + 6) * ROUNDOFF["float32"]


def torch_norm(x, weight):
    return torch.nn.functional.rms_norm(x, (x.shape[-1],), weight, EPSILON)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_norm(shape, dtype):
    x, weight = draw(0, *shape, dtype=dtype, std=3.0), draw(1, shape[-1], dtype=dtype)
    want = torch_norm(torch.from_numpy(f64(x)), torch.from_numpy(f64(weight))).numpy()
    assert_within(rms_norm(x, weight, EPSILON), want, units(shape[-1]) * np.abs(want))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_with_add(shape, dtype):
    x, residual, weight = draw(0, *shape, dtype=dtype), draw(1, *shape, dtype=dtype, std=3.0), draw(2, shape[-1], dtype=dtype)
    y, total = rms_norm_with_add(x, residual, weight, EPSILON)
    exact = f64(x) + f64(residual)
    assert_within(total, exact, ROUNDOFF["float32"] * np.abs(exact))
    want = torch_norm(torch.from_numpy(exact), torch.from_numpy(f64(weight))).numpy()
    assert_within(y, want, (units(shape[-1]) + 2 * ROUNDOFF["float32"]) * np.abs(want))


def gradient_bounds(x, weight, dy):
    """Sums of magnitudes of the terms of dx and dweight, times the float32 error of one term."""
    inv = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
    terms = np.abs(dy * weight)
    dx = inv * (terms + np.abs(x * inv) * (terms * np.abs(x * inv)).mean(-1, keepdims=True))
    dweight = np.abs(dy * x * inv).reshape(-1, x.shape[-1])
    d = x.shape[-1]
    return 4 * units(d) * dx, (units(d) * 2 + len(dweight) * ROUNDOFF["float32"]) * dweight.sum(0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_norm_gradient_is_torchs(shape, dtype):
    x, weight, dy = draw(0, *shape, dtype=dtype), draw(1, shape[-1], dtype=dtype), draw(2, *shape, dtype=dtype)
    dx, dweight = jax.vjp(lambda x, w: rms_norm(x, w, EPSILON), x, weight)[1](dy)
    tx, tw = (torch.from_numpy(f64(a)).requires_grad_() for a in (x, weight))
    torch_norm(tx, tw).backward(torch.from_numpy(f64(dy)))
    for got, want, bound in zip((dx, dweight), (tx, tw), gradient_bounds(f64(x), f64(weight), f64(dy)), strict=True):
        assert_within(got, want.grad.numpy(), bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_with_add_gradient_is_torchs(shape, dtype):
    x, residual, dy, dtotal = (draw(i, *shape, dtype=dtype) for i in range(4))
    weight = draw(4, shape[-1], dtype=dtype)
    got = jax.vjp(lambda *a: rms_norm_with_add(*a, EPSILON), x, residual, weight)[1]((dy, dtotal))
    tx, tr, tw = (torch.from_numpy(f64(a)).requires_grad_() for a in (x, residual, weight))
    total = tx + tr
    (torch_norm(total, tw) * torch.from_numpy(f64(dy)) + total * torch.from_numpy(f64(dtotal))).sum().backward()
    dx, dweight = gradient_bounds(f64(x) + f64(residual), f64(weight), f64(dy))
    dx = dx + 2 * ROUNDOFF["float32"] * np.abs(f64(dtotal))
    for value, want, bound in zip(got, (tx, tr, tw), (dx, dx, dweight), strict=True):
        assert_within(value, want.grad.numpy(), bound)


def test_zero_row_is_zero_and_nan_stays_in_its_row():
    x = draw(0, 3, 16).at[0].set(0).at[1, 2].set(jnp.nan)
    y, total = rms_norm_with_add(x, jnp.zeros_like(x), jnp.ones(16))
    assert (y[0] == 0).all()
    assert np.isnan(y[1]).all()
    assert np.isnan(total[1]).sum() == 1
    assert np.isfinite(y[2]).all()
    dx = jax.grad(lambda x: jnp.sum(rms_norm(x, jnp.ones(16))))(jnp.zeros((1, 16)))
    assert np.isfinite(dx).all()


def test_sum_is_normalised_before_it_is_rounded():
    """1 + 2^-9 is 1 in bfloat16; the norm of the row must still tell the two elements apart from their rounding."""
    x = jnp.asarray([[1.0, 1.0]], jnp.bfloat16)
    residual = jnp.asarray([[2.0**-8 * 0.75, 0.0]], jnp.bfloat16)
    y, total = rms_norm_with_add(x, residual, jnp.asarray([256.0, 256.0], jnp.bfloat16))
    assert_within(total, f64(x) + f64(residual), 0)  # a sum in float32 that is exact, rounded once
    exact = f64(x) + f64(residual)
    want = exact / np.sqrt((exact**2).mean() + 1e-6) * 256
    assert_within(y, want, 8 * ROUNDOFF["float32"] * want)


def test_vmap_is_more_rows():
    x, weight = draw(0, 3, 4, 8), draw(1, 8)
    mapped = jax.vmap(rms_norm, in_axes=(1, None), out_axes=1)
    assert not primitives(mapped, x, weight) & LOOPS
    assert_same(mapped(x, weight), rms_norm(x, weight))


@pytest.mark.parametrize("epsilon", [0, -1e-6, float("nan"), float("inf")])
def test_epsilon_must_be_positive(epsilon):
    with pytest.raises(ValueError, match=r"epsilon must be a finite number > 0.0"):
        rms_norm(jnp.ones((2, 4)), jnp.ones(4), epsilon)


def test_errors_name_argument_and_rule():
    x = jnp.ones((2, 4))
    with pytest.raises(TypeError, match="weight has dtype bfloat16, must be that of x, float32"):
        rms_norm(x, jnp.ones(4, jnp.bfloat16))
    with pytest.raises(ValueError, match=r"dimension 0 of weight is 5, must be D = 4 \(dimension 1 of x\)"):
        rms_norm_with_add(x, x, jnp.ones(5))
    with pytest.raises(ValueError, match=r"leading dimensions of residual are \(3,\), but those of x are \(2,\)"):
        rms_norm_with_add(x, jnp.ones((3, 4)), jnp.ones(4))


WIDE = [("bfloat16", "float32"), ("float16", "float32"), ("bfloat16", "bfloat16"), ("float32", "float32")]


@pytest.mark.parametrize("offset", [0.0, 1.0, -0.3])
@pytest.mark.parametrize(("dtype", "weight_dtype"), WIDE)
@pytest.mark.parametrize("shape", [(3, 128), (2, 3, 33)])
def test_a_wide_weight_and_an_offset_are_taken_in_float32(shape, dtype, weight_dtype, offset):
    """Small weights, as models have that store w and scale by 1 + w: in bfloat16 the sum would keep two of their bits."""
    x, residual, dy = (draw(i, *shape, dtype=dtype) for i in range(3))
    weight = draw(3, shape[-1], dtype=weight_dtype, std=0.01)
    tx, tw = (torch.from_numpy(f64(a)).requires_grad_() for a in (x, weight))
    scale = tw + offset
    rounding = (units(shape[-1]) + 3 * ROUNDOFF["float32"]) * np.abs(scale.detach().numpy())
    dx_bound, dw_bound = gradient_bounds(f64(x), f64(weight) + offset, f64(dy))
    y, pull = jax.vjp(lambda x, w: rms_norm(x, w, EPSILON, weight_offset=offset), x, weight)
    want = torch_norm(tx, scale)
    assert y.dtype == x.dtype
    unscaled = torch_norm(tx.detach(), None).numpy()
    assert_within(y, want.detach().numpy(), rounding * np.abs(unscaled))
    want.backward(torch.from_numpy(f64(dy)))
    dx, dweight = pull(dy)
    assert dweight.dtype == weight.dtype
    assert_within(dx, tx.grad.numpy(), 2 * dx_bound)
    assert_within(dweight, tw.grad.numpy(), dw_bound)

    y, total = rms_norm_with_add(x, residual, weight, EPSILON, weight_offset=offset)
    exact = torch.from_numpy(f64(x) + f64(residual))
    assert_within(total, exact.numpy(), ROUNDOFF["float32"] * np.abs(exact.numpy()))
    rounding = rounding + 2 * ROUNDOFF["float32"] * np.abs(scale.detach().numpy())
    assert_within(y, torch_norm(exact, scale).detach().numpy(), rounding * np.abs(torch_norm(exact, None).numpy()))


def test_an_offset_is_not_lost_in_the_weights_type():
    weight = jnp.full(8, 2.0**-10, jnp.bfloat16)  # 1 + 2^-10 is 1 in bfloat16
    x = jnp.ones((1, 8))
    y = rms_norm(x.astype(jnp.float32), weight.astype(jnp.float32), 1e-30, weight_offset=1.0)
    assert_within(y, np.full((1, 8), 1 + 2.0**-10), units(8))
    wide = rms_norm(x.astype(jnp.bfloat16) * 128, weight * 0 - 0.5, 1e-30, weight_offset=0.5 + 2.0**-9)
    assert (f64(wide) == 2.0**-9).all()  # a power of two, which the rounding to bfloat16 finds again


def test_a_weight_of_another_narrow_type_is_refused_with_an_offset_too():
    x = jnp.ones((2, 4), jnp.bfloat16)
    for offset in (0.0, 1.0):
        for dtype, rule in ((jnp.float16, "must be that of x, bfloat16, or float32"), (jnp.int32, "must be float32 or")):
            with pytest.raises(TypeError, match=f"rms_norm: weight has dtype {jnp.dtype(dtype).name}, {rule}"):
                rms_norm(x, jnp.ones(4, dtype), weight_offset=offset)
            with pytest.raises(TypeError, match=f"rms_norm_with_add: weight has dtype {jnp.dtype(dtype).name}, {rule}"):
                rms_norm_with_add(x, x, jnp.ones(4, dtype), weight_offset=offset)
        with pytest.raises(ValueError, match="dimension 0 of weight is 1, must be D = 4"):
            rms_norm(x, jnp.ones(1), weight_offset=offset)


@pytest.mark.parametrize("offset", ["1", None, float("nan"), True, jnp.float32(1)])
def test_an_offset_is_a_static_number(offset):
    for norm in (
        lambda **k: rms_norm(jnp.ones((2, 4)), jnp.ones(4), **k),
        lambda **k: rms_norm_with_add(*[jnp.ones((2, 4))] * 2, jnp.ones(4), **k),
    ):
        with pytest.raises((TypeError, ValueError), match="weight_offset must be"):
            norm(weight_offset=offset)
