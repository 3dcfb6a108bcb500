"""The product that every reference of attention is built on, of axes of which any may be 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.ops.attention.forms.softmax import dot

SCORES, VALUES = "nrhgd,nkhd->nrhgk", "nrhgk,nkhd->nrhgd"
SIZES = {"n": 3, "r": 2, "h": 2, "g": 3, "k": 5, "d": 4}


def arrays(subscripts, sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(-4, 5, [sizes[axis] for axis in axes]).astype(np.float32) for axes in subscripts.split("->")[0].split(",")]


@pytest.mark.parametrize("subscripts", [SCORES, VALUES], ids=["scores", "values"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_any_axes_may_be_one(subscripts, dtype):
    """Small integers, which every dtype here holds and adds exactly."""
    for ones in ("", "n", "r", "h", "g", "k", "d", "rh", "rhg", "nrhgkd"):
        a, b = arrays(subscripts, SIZES | dict.fromkeys(ones, 1))
        got, want = dot(subscripts, *map(dtype, (a, b))), np.einsum(subscripts, a, b)
        assert got.dtype == jnp.float32
        assert got.shape == want.shape
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("subscripts", [SCORES, VALUES], ids=["scores", "values"])
def test_a_size_may_be_an_expression(subscripts):
    (n,) = jax.export.symbolic_shape("n")
    a, b = arrays(subscripts, SIZES | {"r": 1, "h": 1})
    given = [jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype) for x in (a, b)]
    exported = jax.export.export(jax.jit(lambda a, b: dot(subscripts, a, b)))(*given)
    for rows in (1, 3):
        np.testing.assert_array_equal(exported.call(a[:rows], b[:rows]), np.einsum(subscripts, a[:rows], b[:rows]))


def test_one_query_and_one_head_are_multiplied_as_they_lie():
    """No transposition, which took a CPU longer than the product."""
    p, v = (jnp.zeros(shape, jnp.bfloat16) for shape in ((4, 1, 1, 16, 64), (4, 64, 1, 32)))
    text = jax.jit(lambda p, v: dot(VALUES, p, v)).lower(p, v).as_text()
    assert "stablehlo.dot_general" in text
    assert "transpose" not in text
