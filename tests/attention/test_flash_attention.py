"""flash_attention against float64 numpy and torch autograd."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter

from .oracle import assert_close, attend, window_mask

BLOCK = 128  # of the reference lowering: sizes around it exercise partial and skipped blocks


def draw(*shapes, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [np.asarray(jnp.asarray(rng.standard_normal(s), dtype)) for s in shapes]


@pytest.mark.parametrize(
    ("batch", "sq", "sk", "hq", "hk", "d", "dv", "options"),
    [
        (1, 1, 1, 1, 1, 8, 8, {}),
        (2, BLOCK - 1, BLOCK - 1, 3, 3, 16, 16, {"causal": True}),
        (1, BLOCK, BLOCK + 1, 4, 1, 8, 4, {"causal": True}),
        (1, BLOCK + 1, 300, 8, 1, 8, 8, {"causal": True, "window": (40, -1)}),
        (1, 300, BLOCK, 2, 2, 8, 8, {"causal": True}),  # the first queries see no key
        (2, 20, 33, 6, 2, 8, 8, {"window": (3, 2), "slopes": 2}),
        (1, 7, 7, 5, 5, 8, 8, {"window": (0, 0), "slopes": 1}),
        (2, 17, 9, 2, 1, 8, 8, {"cap": 2.0, "bias": True, "slopes": 1}),
    ],
)
def test_against_float64(batch, sq, sk, hq, hk, d, dv, options):
    q, k, v = draw((batch, sq, hq, d), (batch, sk, hk, d), (batch, sk, hk, dv))
    rng = np.random.default_rng(1)
    bias = rng.standard_normal((sq, sk)).astype(np.float32) if options.get("bias") else None
    shape = {0: None, 1: (hq,), 2: (batch, hq)}[options.get("slopes", 0)]
    slopes = None if shape is None else rng.uniform(0.1, 0.5, shape).astype(np.float32)
    causal, window, cap = options.get("causal", False), options.get("window", (-1, -1)), options.get("cap", 0.0)
    call = functools.partial(jax_aiter.flash_attention, causal=causal, sliding_window=window, logits_soft_cap=cap)
    got = jax.jit(call)(q, k, v, bias=bias, alibi_slopes=slopes)
    mask = window_mask(sq, sk, causal, window)
    for b in range(batch):

        def score(s, h, i, keys, b=b):
            s = cap * np.tanh(s / cap) if cap else s
            if slopes is not None:
                s = s - (slopes if slopes.ndim == 1 else slopes[b])[h] * np.abs(i + sk - sq - keys)
            return s if bias is None else s + bias[i, keys]

        assert_close(got[b], attend(q[b], k[b], v[b], mask, scale=d**-0.5, score=score)[0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision(dtype):
    q, k, v = draw((1, 40, 4, 32), (1, 140, 2, 32), (1, 140, 2, 32), dtype=dtype)
    got = jax_aiter.flash_attention(q, k, v, causal=True, scale=0.2)
    assert_close(got[0], attend(q[0], k[0], v[0], window_mask(40, 140, True), scale=0.2)[0])


@pytest.mark.parametrize(
    ("sq", "sk", "hq", "hk", "causal", "cap"), [(150, 150, 4, 2, True, 0.0), (9, 140, 3, 1, False, 3.0), (140, 20, 2, 2, True, 0.0)]
)
def test_gradients_against_torch_autograd(sq, sk, hq, hk, causal, cap):
    """dq, dk, dv, dbias. float32 on both sides: sums over at most 150 keys or queries, 2^-17 of the largest gradient is ample."""
    q, k, v, bias, dout = draw((2, sq, hq, 16), (2, sk, hk, 16), (2, sk, hk, 8), (sq, sk), (2, sq, hq, 8))

    def ours(q, k, v, bias):
        out = jax_aiter.flash_attention(q, k, v, bias=bias, causal=causal, logits_soft_cap=cap)
        return jnp.sum(out * dout)

    got = jax.jit(jax.grad(ours, (0, 1, 2, 3)))(q, k, v, bias)
    tq, tk, tv, tb = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (q, k, v, bias))
    s = torch.einsum("bqhd,bkhd->bhqk", tq, tk.repeat_interleave(hq // hk, 2)) / 4
    s = (cap * torch.tanh(s / cap) if cap else s) + tb
    mask = torch.tensor(window_mask(sq, sk, causal))
    p = torch.softmax(s.masked_fill(~mask, -1e30), -1) * mask.any(-1)[:, None]
    out = torch.einsum("bhqk,bkhd->bqhd", p, tv.repeat_interleave(hq // hk, 2))
    (out * torch.tensor(dout)).sum().backward()
    for g, t in zip(got, (tq, tk, tv, tb), strict=True):
        assert_close(g, t.grad.numpy())


def test_gradient_of_slopes_is_refused():
    q, slopes = jnp.ones((1, 4, 2, 8)), jnp.ones(2)
    with pytest.raises(TypeError, match="alibi_slopes"):
        jax.grad(lambda s: jax_aiter.flash_attention(q, q, q, alibi_slopes=s).sum())(slopes)


def test_dropout_is_refused():
    q = jnp.ones((1, 4, 2, 8))
    with pytest.raises(ValueError, match="dropout"):
        jax_aiter.flash_attention(q, q, q, dropout=0.1)


@pytest.mark.parametrize("gradient", [False, True])
def test_memory_grows_linearly(gradient):
    """Twice the sequence needs at most 2.2 times the scratch memory; an array of Sq x Sk would need 4 times."""

    def run(q, k, v):
        return jnp.sum(jax_aiter.flash_attention(q, k, v, causal=True))

    def scratch(size):
        x = jax.ShapeDtypeStruct((1, size, 2, 32), jnp.float32)
        compiled = jax.jit(jax.grad(run, (0, 1, 2)) if gradient else run).lower(x, x, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = scratch(2048), scratch(4096)
    assert large <= 2.2 * small, (small, large)
    assert large < 4096 * 4096 * 4  # below even one head's scores
