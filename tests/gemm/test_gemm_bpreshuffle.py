"""The GEMMs with a preshuffled weight against float64 products of the exact operand values; bounds as for their plain siblings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_aiter import (
    ShuffledWeight,
    gemm_a8w8_blockscale_bpreshuffle,
    gemm_a8w8_bpreshuffle,
    gemm_a16w16,
    gemm_a16w16_bpreshuffle,
    shuffle_weight,
)
from tests.oracle import LOOPS, ROUNDOFF, assert_same, assert_within, draw, f64, primitives

U = ROUNDOFF["float32"]
FP8 = [jnp.float8_e4m3fnuz, jnp.float8_e4m3fn]


def quantised(seed, *shape, dtype):
    if jnp.dtype(dtype) == jnp.int8:
        return jnp.asarray(np.random.default_rng(seed).integers(-127, 128, shape), jnp.int8)
    return draw(seed, *shape, std=60.0).clip(-240, 240).astype(dtype)


def scales(seed, *shape):
    return jnp.exp(draw(seed, *shape))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 32), (17, 48, 96), (129, 128, 160)])
def test_16_bit(m, n, k, dtype):
    a, b, bias = draw(0, m, k, dtype=dtype), draw(1, n, k, dtype=dtype), draw(2, n)
    want, bound = f64(a) @ f64(b).T + f64(bias), (k + 3) * U * (np.abs(f64(a)) @ np.abs(f64(b)).T + np.abs(f64(bias)))
    y = gemm_a16w16_bpreshuffle(a, shuffle_weight(b), bias=bias, out_dtype="float32")
    assert_within(y, want, bound)
    assert_same(gemm_a16w16(a, shuffle_weight(b), bias=bias, out_dtype="float32"), y)
    assert gemm_a16w16(a, shuffle_weight(b)).dtype == dtype


def test_gradient_is_torchs():
    a, b, bias, dy = draw(0, 5, 64), draw(1, 32, 64), draw(2, 32), draw(3, 5, 32)
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    ta, tb, tbias = (torch.from_numpy(f64(x)).requires_grad_() for x in (a, b, bias))
    torch.nn.functional.linear(ta, tb, tbias).backward(torch.from_numpy(f64(dy)))

    def loss(a, w, bias):
        return jnp.sum(gemm_a16w16(a, w, bias=bias, out_dtype="float32") * dy)

    da, dw, dbias = jax.grad(loss, argnums=(0, 1, 2))(a, shuffle_weight(b), bias)
    assert isinstance(dw, ShuffledWeight)
    size = np.abs(f64(dy))
    assert_within(da, ta.grad.numpy(), 34 * U * size @ np.abs(f64(b)))
    assert_within(dw.unshuffle(), tb.grad.numpy(), 7 * U * size.T @ np.abs(f64(a)))
    assert_within(dbias, tbias.grad.numpy(), 7 * U * size.sum(0))


@pytest.mark.parametrize("dtype", [*FP8, jnp.int8])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 32), (5, 48, 96), (33, 128, 256)])
def test_per_token(m, n, k, dtype):
    x, w, bias = quantised(0, m, k, dtype=dtype), quantised(1, n, k, dtype=dtype), draw(4, n)
    xs, ws = scales(2, m, 1), scales(3, n, 1)
    y = gemm_a8w8_bpreshuffle(x, shuffle_weight(w), xs, ws, bias=bias, splitK=1)
    factor = f64(xs) * f64(ws).T
    size = np.abs(f64(x)) @ np.abs(f64(w)).T * factor + np.abs(f64(bias))
    assert_within(y, f64(x) @ f64(w).T * factor + f64(bias), (k + 4) * U * size)


@pytest.mark.parametrize("transpose_scale", [False, True])
@pytest.mark.parametrize("dtype", [*FP8, jnp.int8])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 128), (5, 144, 256), (33, 128, 384)])
def test_blockscale(m, n, k, dtype, transpose_scale):
    x, w = quantised(0, m, k, dtype=dtype), quantised(1, n, k, dtype=dtype)
    xs, ws = scales(2, m, k // 128), scales(3, -(-n // 128), k // 128)
    given = xs.T if transpose_scale else xs
    y = gemm_a8w8_blockscale_bpreshuffle(x, shuffle_weight(w), given, ws, transpose_scale=transpose_scale)
    a = f64(x) * np.repeat(f64(xs), 128, 1)
    b = f64(w) * np.repeat(np.repeat(f64(ws), 128, 0)[:n], 128, 1)
    assert_within(y, a @ b.T, (k + 4) * U * np.abs(a) @ np.abs(b).T)


@pytest.mark.parametrize("transpose_scale", [False, True])
def test_vmap_over_tokens_or_weights_is_one_product(transpose_scale):
    x, xs = quantised(0, 3, 4, 128, dtype=jnp.int8), scales(1, 3, 4, 1)
    w, ws = quantised(2, 3, 128, 128, dtype=jnp.int8), scales(3, 3, 1, 1)
    xs = xs.swapaxes(1, 2) if transpose_scale else xs
    shuffled = jax.vmap(shuffle_weight)(w)

    def one(x, w, xs, ws):
        return gemm_a8w8_blockscale_bpreshuffle(x, w, xs, ws, transpose_scale=transpose_scale)

    for axes in ((0, None, 0, None), (None, 0, None, 0)):
        args = [v if ax == 0 else jax.tree.map(lambda y: y[0], v) for v, ax in zip((x, shuffled, xs, ws), axes, strict=True)]
        mapped = jax.vmap(one, in_axes=axes)
        assert not primitives(mapped, *args) & LOOPS
        for i in range(3):
            part = [jax.tree.map(lambda y: y[i], v) if ax == 0 else v for v, ax in zip(args, axes, strict=True)]  # noqa: B023
            assert_same(mapped(*args)[i], one(*part))


def test_errors_name_argument_and_rule():
    a, b = draw(0, 4, 64, dtype="bfloat16"), draw(1, 32, 64, dtype="bfloat16")
    with pytest.raises(ValueError, match=r"b is shuffled with layout \(32, 16\), must be \(16, 16\)"):
        gemm_a16w16(a, shuffle_weight(b, layout=(32, 16)))
    with pytest.raises(TypeError, match="b must be a ShuffledWeight"):
        gemm_a16w16_bpreshuffle(a, b)
    with pytest.raises(ValueError, match="dimension 0 of b is 20, must be a multiple of 16"):
        gemm_a16w16(a, ShuffledWeight(b[:20], (16, 16)))
    x, w = quantised(0, 4, 256, dtype=jnp.int8), shuffle_weight(quantised(1, 128, 256, dtype=jnp.int8))
    xs, ws = scales(2, 4, 2), scales(3, 1, 2)
    with pytest.raises(ValueError, match=r"dimension 1 of x_scale is 2, must be M = 4 .* for \[Kb M\]"):
        gemm_a8w8_blockscale_bpreshuffle(x, w, xs, ws, transpose_scale=True)
    with pytest.raises(ValueError, match=r"splitK must be in \[1, 16\], got 17"):
        gemm_a8w8_blockscale_bpreshuffle(x, w, xs, ws, splitK=17)
    with pytest.raises(TypeError, match="wq has dtype int8, must be that of xq, float8_e4m3fnuz"):
        gemm_a8w8_bpreshuffle(x.astype(jnp.float8_e4m3fnuz), w, scales(2, 4, 1), scales(3, 128, 1))
