"""gemm_a16w16 and batched_gemm_bf16 against float64 products and torch autograd.

Accumulating K products in float32, in any order, errs by at most K · 2^-24 · Σ|a||b| (the classical bound; the products of 16-bit
operands are exact, those of float32 add one unit, the bias one more). The output is then rounded once.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_aiter import batched_gemm_bf16, gemm_a16w16
from tests.oracle import LOOPS, ROUNDOFF, assert_within, draw, f64, primitives

SIZES = [(1, 1, 1), (1, 7, 128), (127, 3, 129), (128, 128, 127), (129, 65, 33)]
DTYPES = ["float32", "bfloat16", "float16"]


def accumulation(a, b, k):
    return (k + 2) * ROUNDOFF["float32"] * np.abs(a) @ np.abs(b).swapaxes(-1, -2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_forward(m, n, k, dtype):
    a, b = draw(0, m, k, dtype=dtype), draw(1, n, k, dtype=dtype)
    assert_within(gemm_a16w16(a, b), f64(a) @ f64(b).T, accumulation(f64(a), f64(b), k))


@pytest.mark.parametrize("out_dtype", DTYPES)
@pytest.mark.parametrize("bias_dtype", ["float32", "bfloat16"])
def test_bias_is_added_before_the_one_rounding(out_dtype, bias_dtype):
    a, b, bias = draw(0, 5, 33, dtype="bfloat16"), draw(1, 9, 33, dtype="bfloat16"), draw(2, 9, dtype=bias_dtype, std=50.0)
    y = gemm_a16w16(a, b, bias=bias, out_dtype=out_dtype)
    assert y.dtype == out_dtype
    bound = accumulation(f64(a), f64(b), 33) + 2 * ROUNDOFF["float32"] * np.abs(f64(bias))
    assert_within(y, f64(a) @ f64(b).T + f64(bias), bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("out_dtype", [None, "float32"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (5, 7, 33), (65, 3, 17)])
def test_gradient_is_torchs(m, n, k, dtype, out_dtype):
    a, b, bias = draw(0, m, k, dtype=dtype), draw(1, n, k, dtype=dtype), draw(2, n, dtype=dtype)
    dy = draw(3, m, n, dtype=out_dtype or dtype)
    _, pull = jax.vjp(lambda a, b, bias: gemm_a16w16(a, b, bias=bias, out_dtype=out_dtype), a, b, bias)
    ta, tb, tbias = (torch.from_numpy(f64(x)).requires_grad_() for x in (a, b, bias))
    torch.nn.functional.linear(ta, tb, tbias).backward(torch.from_numpy(f64(dy)))
    u, size = 2 * ROUNDOFF["float32"], np.abs(f64(dy))
    bounds = [(n + 1) * u * size @ np.abs(f64(b)), (m + 1) * u * size.T @ np.abs(f64(a)), (m + 1) * u * size.sum(0)]
    for got, want, bound in zip(pull(dy), (ta, tb, tbias), bounds, strict=True):
        assert_within(got, want.grad.numpy(), bound)


@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (None, 0, 0), (0, 0, None), (0, 0, 0), (0, None, 0)])
def test_vmap_is_one_product(axes):
    shapes = [(5, 16), (6, 16), (6,)]
    args = [draw(i, *((3, *s) if ax == 0 else s), dtype="bfloat16") for i, (s, ax) in enumerate(zip(shapes, axes, strict=True))]
    mapped = jax.vmap(lambda a, b, bias: gemm_a16w16(a, b, bias=bias), in_axes=axes)
    assert not primitives(mapped, *args) & LOOPS
    a, b, bias = (f64(x) if ax == 0 else f64(x)[None] for x, ax in zip(args, axes, strict=True))
    bound = accumulation(a, b, 16) + 2 * ROUNDOFF["float32"] * np.abs(bias)[:, None]
    assert_within(mapped(*args), a @ b.swapaxes(-1, -2) + bias[:, None], bound)


def test_gradient_of_vmap_over_weights():
    a, b = draw(0, 3, 4, 8), draw(1, 3, 5, 8)
    got = jax.grad(lambda b: jnp.sum(jax.vmap(gemm_a16w16)(a, b) ** 2))(b)
    want = 2 * np.einsum("bmn,bmk->bnk", np.einsum("bmk,bnk->bmn", f64(a), f64(b)), f64(a))
    np.testing.assert_allclose(f64(got), want, rtol=0, atol=20 * 2.0**-24 * np.abs(want).max())


@pytest.mark.parametrize(("b", "m", "n", "k"), [(1, 1, 1, 1), (3, 129, 7, 65), (5, 2, 128, 127)])
def test_batched(b, m, n, k):
    x, w, bias = draw(0, b, m, k, dtype="bfloat16"), draw(1, b, n, k, dtype="bfloat16"), draw(2, b, n)
    bound = accumulation(f64(x), f64(w), k) + 2 * ROUNDOFF["float32"] * np.abs(f64(bias))[:, None]
    assert_within(batched_gemm_bf16(x, w, bias=bias), f64(x) @ f64(w).swapaxes(1, 2) + f64(bias)[:, None], bound)


def test_batched_in_float32():
    x, w = draw(0, 3, 5, 33), draw(1, 3, 7, 33)
    y = batched_gemm_bf16(x, w)
    assert y.dtype == jnp.float32
    assert_within(y, f64(x) @ f64(w).swapaxes(1, 2), accumulation(f64(x), f64(w), 33))
    got = jax.grad(lambda w: jnp.sum(batched_gemm_bf16(x, w)))(w)
    assert_within(got, np.broadcast_to(f64(x).sum(1)[:, None], w.shape), 7 * ROUNDOFF["float32"] * np.abs(f64(x)).sum(1)[:, None])


def test_nan_and_infinity_reach_their_row_only():
    a = draw(0, 4, 8).at[1, 3].set(jnp.nan).at[2, 0].set(jnp.inf)
    y = np.asarray(gemm_a16w16(a, draw(1, 5, 8)))
    assert np.isnan(y[1]).all()
    assert np.isinf(y[2]).all()
    assert np.isfinite(y[[0, 3]]).all()


def test_errors_name_argument_and_rule():
    a = draw(0, 4, 8)
    with pytest.raises(ValueError, match=r"dimension 1 of b is 7, must be K = 8 \(dimension 1 of a\)"):
        gemm_a16w16(a, draw(1, 5, 7))
    with pytest.raises(TypeError, match="b has dtype bfloat16, must be that of a, float32"):
        gemm_a16w16(a, draw(1, 5, 8, dtype="bfloat16"))
    with pytest.raises(ValueError, match="out_dtype must be bfloat16 or float16 or float32, got int8"):
        gemm_a16w16(a, draw(1, 5, 8), out_dtype="int8")
    with pytest.raises(TypeError, match="XQ has dtype float16, must be bfloat16 or float32"):
        batched_gemm_bf16(draw(0, 2, 4, 8, dtype="float16"), draw(1, 2, 5, 8, dtype="float16"))
    with pytest.raises(TypeError, match="WQ"):
        batched_gemm_bf16(draw(0, 2, 4, 8), draw(1, 2, 5, 8, dtype="bfloat16"))
