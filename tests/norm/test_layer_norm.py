"""layer_norm and layer_norm_with_add against torch in float64, values and autograd.

In float32 the mean of D values errs by (D + 1) units of the mean magnitude, which each centred value then carries; the mean square
of those by (D + 1) units more, its inverse root by half of that and 2; two products and a sum add 3. A centred value is small
against what it is made of where the deviation is small against the mean, so bounds are on the terms' magnitudes, not the result's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_aiter import layer_norm, layer_norm_with_add
from tests.oracle import LOOPS, ROUNDOFF, assert_same, assert_within, draw, f64, primitives

DTYPES = ["float32", "bfloat16", "float16"]
SHAPES = [(1, 1), (1, 127), (3, 128), (129, 129), (2, 3, 33)]
EPSILON = 1e-5
U = ROUNDOFF["float32"]


def torch_norm(x, weight, bias):
    return torch.nn.functional.layer_norm(x, (x.shape[-1],), weight, bias, EPSILON)


def leaf(x):
    return None if x is None else torch.from_numpy(f64(x)).requires_grad_()


def value_bound(x, weight, bias):
    """The error of the norm of float64 rows `x` in float32."""
    d = x.shape[-1]
    inv = 1 / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
    centred = np.abs(x - x.mean(-1, keepdims=True))
    off = (d + 2) * U * (np.abs(x).mean(-1, keepdims=True) + np.abs(x))  # of each centred value
    xhat = inv * (off + centred * ((d / 2 + 8) * U + inv * off.max(-1, keepdims=True)))
    return np.abs(weight) * xhat + 3 * U * (np.abs(weight) * inv * centred + (0 if bias is None else np.abs(bias)))


def operands(shape, dtype, with_bias, add=False):
    x, weight = draw(0, *shape, dtype=dtype, std=3.0), draw(1, shape[-1], dtype=dtype)
    bias = draw(2, shape[-1], dtype=dtype) if with_bias else None
    return x, draw(3, *shape, dtype=dtype) if add else None, weight, bias


def f64s(*arrays):
    return [None if a is None else f64(a) for a in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, with_bias, dtype):
    x, _, weight, bias = operands(shape, dtype, with_bias)
    want = torch_norm(leaf(x), leaf(weight), leaf(bias)).detach().numpy()
    assert_within(layer_norm(x, weight, bias, EPSILON), want, value_bound(*f64s(x, weight, bias)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_with_add(shape, with_bias, dtype):
    x, residual, weight, bias = operands(shape, dtype, with_bias, add=True)
    y, total = layer_norm_with_add(x, residual, weight, bias, EPSILON)
    exact = f64(x) + f64(residual)
    assert_within(total, exact, U * np.abs(exact))
    want = torch_norm(torch.from_numpy(exact), leaf(weight), leaf(bias)).detach().numpy()
    assert_within(y, want, value_bound(exact, *f64s(weight, bias)))


def test_a_large_mean_does_not_cancel():
    """The mean of squares less the square of the mean would lose all digits of a deviation of 1 about 4096."""
    x = 4096 + draw(0, 4, 64)
    want = torch_norm(leaf(x), torch.ones(64, dtype=torch.float64), None).detach().numpy()
    got = layer_norm(x, jnp.ones(64), epsilon=EPSILON)
    assert_within(got, want, value_bound(f64(x), np.ones(64), None))
    assert np.abs(f64(got) - want).max() < 0.02


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 127), (3, 128), (65, 33), (2, 3, 33)])
@pytest.mark.parametrize("add", [False, True])
def test_gradient_is_torchs(add, shape, dtype):
    x, residual, weight, bias = operands(shape, dtype, True, add)
    dy, dtotal = draw(5, *shape, dtype=dtype), draw(6, *shape, dtype=dtype)
    given = [a for a in (x, residual, weight, bias) if a is not None]
    leaves = [leaf(a) for a in given]
    if add:
        got = jax.vjp(lambda *a: layer_norm_with_add(*a, EPSILON), *given)[1]((dy, dtotal))
        total = leaves[0] + leaves[1]
        ((torch_norm(total, *leaves[2:]) * leaf(dy)).sum() + (total * leaf(dtotal)).sum()).backward()
    else:
        got = jax.vjp(lambda *a: layer_norm(*a, EPSILON), *given)[1](dy)
        total = leaves[0]
        (torch_norm(total, *leaves[1:]) * leaf(dy)).sum().backward()
    d, rows = shape[-1], int(np.prod(shape[:-1]))
    total, w, g = total.detach().numpy(), f64(weight), np.abs(f64(dy))
    inv = 1 / np.sqrt(total.var(-1, keepdims=True) + EPSILON)
    xhat, terms = np.abs(inv * (total - total.mean(-1, keepdims=True))), g * np.abs(w)
    # sums of magnitudes of the terms, each off by what xhat and a mean over D are off
    off = (4 * d + 40) * U * (1 + np.abs(total).max(-1, keepdims=True) * inv)
    dx = inv * (
        terms + terms.mean(-1, keepdims=True) + xhat * (terms * xhat).mean(-1, keepdims=True) + terms.mean(-1, keepdims=True)
    )
    dx = off * dx + (2 * U * np.abs(f64(dtotal)) if add else 0)
    dweight = ((off + rows * U) * g * (xhat + 1)).reshape(-1, d).sum(0)
    dbias = (rows * U * g).reshape(-1, d).sum(0)
    bounds = [dx, *([dx] if add else []), dweight, dbias]
    for value, want, bound in zip(got, leaves, bounds, strict=True):
        assert_within(value, want.grad.numpy(), bound)


def test_the_sum_is_normalised_before_it_is_rounded():
    """1 + 2^-9 is 1 in bfloat16: of the rounded sum the norm would be zero."""
    x, residual = jnp.asarray([[1.0, 1.0]], jnp.bfloat16), jnp.asarray([[2.0**-9, 0.0]], jnp.bfloat16)
    y, total = layer_norm_with_add(x, residual, jnp.ones(2, jnp.bfloat16), epsilon=1e-12)
    assert total.tolist() == [[1.0, 1.0]]
    assert y[0, 0] > 0.5 > -0.5 > y[0, 1]


def test_vmap_is_more_rows_and_nan_stays_in_its_row():
    x, weight, bias = draw(0, 3, 4, 8), draw(1, 8), draw(2, 8)
    mapped = jax.vmap(layer_norm, in_axes=(1, None, None), out_axes=1)
    assert not primitives(mapped, x, weight, bias) & LOOPS
    assert_same(mapped(x, weight, bias), layer_norm(x, weight, bias))
    y = layer_norm(x.at[1, 2, 3].set(jnp.nan), weight, bias)
    assert np.isnan(y[1, 2]).all()
    assert np.isnan(y).sum() == 8


def test_errors_name_argument_and_rule():
    x = jnp.ones((2, 4))
    with pytest.raises(TypeError, match="bias has dtype bfloat16, must be that of x, float32"):
        layer_norm(x, jnp.ones(4), jnp.ones(4, jnp.bfloat16))
    with pytest.raises(ValueError, match=r"dimension 0 of bias is 5, must be D = 4 \(dimension 1 of x\)"):
        layer_norm_with_add(x, x, jnp.ones(4), jnp.ones(5))
    with pytest.raises(ValueError, match=r"layer_norm: epsilon must be a finite number > 0.0, got 0.0"):
        layer_norm(x, jnp.ones(4), epsilon=0.0)
