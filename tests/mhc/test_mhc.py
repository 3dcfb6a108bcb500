"""Hyper-connections against float64 numpy, written from their definition; nothing of the package's.

Float32 inside: a product of K numbers over a root mean square errs by some K/2 units of its largest term, and what the sigmoids,
the softmax and the twenty divisions of Sinkhorn make of it by a few units more of numbers of at most 2.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from tests.mhc.oracle import post, pre
from tests.oracle import draw, f64


def inputs(*lead, streams, width, dtype=jnp.float32):
    rows = 2 * streams + streams * streams
    fn = draw(1, rows, streams * width, std=0.3)
    return draw(0, *lead, streams, width, dtype=dtype), fn, draw(2, 3), draw(3, rows)


def close(got, want, terms):
    spacing = 2.0**-8 if got.dtype == jnp.bfloat16 else 2.0**-24
    np.testing.assert_allclose(f64(got), want, rtol=spacing, atol=2.0**-24 * (terms + 40) * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize(("lead", "streams", "width"), [((3,), 4, 33), ((2, 2), 2, 1), ((1,), 1, 5), ((0,), 4, 4)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("repeat", "normed"), [(20, True), (1, False)])
def test_pre(lead, streams, width, dtype, repeat, normed):
    given = inputs(*lead, streams=streams, width=width, dtype=dtype)
    weight = draw(4, width, dtype=dtype) if normed else None
    got = jax_aiter.mhc_pre(*given, hc_post_mult_value=2.0, sinkhorn_repeat=repeat, norm_weight=weight)
    assert [x.dtype for x in got] == [jnp.float32, jnp.float32, dtype]
    if 0 in lead:
        assert [x.shape for x in got] == [(*lead, streams, 1), (*lead, streams, streams), (*lead, width)]
        return
    for g, w in zip(got, pre(*given, 2.0, repeat, weight), strict=True):
        close(g, w, 8 * streams * width)


def test_rows_and_columns_sum_to_one_in_the_end():
    _, comb, _ = jax_aiter.mhc_pre(*inputs(3, streams=4, width=8), sinkhorn_repeat=60)
    for axis in (1, 2):
        np.testing.assert_allclose(f64(comb).sum(axis), 1.0, rtol=0, atol=1e-5)


def test_the_head_has_no_way_back():
    residual, fn, scale, base = inputs(5, streams=4, width=6, dtype=jnp.bfloat16)
    given = residual, fn[:4], scale[:1], base[:4]
    close(jax_aiter.hc_head(*given), pre(*given, 1.0, 0), 200)


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("streams", [1, 3, 4])
def test_post_and_the_next_pre(streams, column):
    residual, *rest = inputs(3, streams=streams, width=7)
    x, weights, comb = draw(5, 3, 7), draw(6, 3, streams), draw(7, 3, streams, streams)
    want = post(x, residual, weights, comb)
    given = x, residual, weights[..., None] if column else weights, comb
    close(jax_aiter.mhc_post(*given), want, 8)
    *mixed, streams_out = jax_aiter.mhc_fused_post_pre(*given, *rest, hc_post_mult_value=2.0)
    close(streams_out, want, 8)
    for g, w in zip(mixed, pre(want, *rest, 2.0, 20), strict=True):
        close(g, w, 400)


def test_gradients_are_those_of_differences():
    """In float64's place, central differences of the oracle along one direction of each operand."""
    given = inputs(2, streams=2, width=3)
    cotangents = [draw(8, 2, 2, 1), draw(9, 2, 2, 2), draw(10, 2, 3)]

    def loss(*x):
        return sum(jnp.sum(a * c) for a, c in zip(jax_aiter.mhc_pre(*x, sinkhorn_repeat=3), cotangents, strict=True))

    gradients = jax.jit(jax.grad(loss, argnums=range(4)))(*given)
    for i, gradient in enumerate(gradients):
        direction, step = f64(draw(20 + i, *given[i].shape)), 1e-6
        ends = []
        for sign in (1, -1):
            moved = [f64(x) + (sign * step * direction if i == j else 0.0) for j, x in enumerate(given)]
            ends.append(sum((a * f64(c)).sum() for a, c in zip(pre(*moved, 1.0, 3), cotangents, strict=True)))
        want = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose((f64(gradient) * direction).sum(), want, rtol=1e-4, atol=1e-4)


def test_wrong_calls_are_named():
    residual, fn, scale, base = inputs(2, streams=2, width=3)
    with pytest.raises(ValueError, match=r"mhc_pre: dimension 1 of fn is 5, must be n \* H = 6"):
        jax_aiter.mhc_pre(residual, fn[:, :5], scale, base)
    with pytest.raises(ValueError, match=r"mhc_pre: dimension 0 of fn is 2, must be 2 \* n \+ n \* n = 8"):
        jax_aiter.mhc_pre(residual, fn[:2], scale, base[:2])
    with pytest.raises(ValueError, match="sinkhorn_repeat"):
        jax_aiter.mhc_pre(residual, fn, scale, base, sinkhorn_repeat=-1)
    with pytest.raises(ValueError, match="dimension 0 of hc_scale is 3, must be 1"):
        jax_aiter.hc_head(residual, fn[:2], scale, base[:2])
    with pytest.raises(TypeError, match="fn has dtype bfloat16"):
        jax_aiter.mhc_pre(residual, fn.astype(jnp.bfloat16), scale, base)
