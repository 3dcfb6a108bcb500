"""Chunked attention (Llama 4): a query sees its own chunk of its sequence, up to itself, whatever came before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter

from . import test_unified_attention as unified
from .oracle import assert_close, attend, window_mask
from .test_attention_states import LSE, draw, packed
from .test_paged_attention import LAYOUTS, Problem


@pytest.mark.parametrize(("sq", "sk", "chunk", "left"), [(300, 300, 128, -1), (9, 140, 7, -1), (40, 25, 8, 5), (1, 17, 16, -1)])
def test_dense(sq, sk, chunk, left):
    q, k, v, sinks = draw((2, sq, 4, 8), (2, sk, 2, 8), (2, sk, 2, 4), (4,))
    options = {"causal": True, "sliding_window": (left, -1), "sinks": sinks, "return_lse": True}
    out, lse = jax_aiter.flash_attention(q, k, v, attention_chunk_size=chunk, **options)
    mask = window_mask(sq, sk, True, (left, -1), chunk)
    for b in range(2):
        want, want_lse = attend(q[b], k[b], v[b], mask, scale=8**-0.5, sink=sinks)
        assert_close(out[b], want)
        np.testing.assert_allclose(lse[b].T, want_lse, **LSE)


def test_as_llama_4_masks():
    """The mask of transformers' Llama 4, with a cache of keys before the queries."""
    masks = pytest.importorskip("transformers.masking_utils")
    queries, keys, chunk = 21, 50, 16
    rule = masks.chunked_causal_mask_function(chunk, torch.zeros(1, dtype=torch.int64))
    index = torch.arange(keys - queries, keys)[:, None], torch.arange(keys)[None]
    mask = np.asarray(rule(0, 0, *index))
    q, k, v = draw((1, queries, 2, 8), (1, keys, 2, 8), (1, keys, 2, 8))
    want = attend(q[0], k[0], v[0], mask, scale=0.5)[0]
    assert_close(jax_aiter.flash_attention(q, k, v, causal=True, scale=0.5, attention_chunk_size=chunk)[0], want)


def test_packed():
    lengths_q, lengths_k, chunk = (5, 0, 130, 4), (23, 7, 140, 1), 32
    cu_q, cu_k = packed(*lengths_q), packed(*lengths_k)
    q, k, v = draw((cu_q[-1] + 3, 4, 8), (cu_k[-1] + 2, 2, 8), (cu_k[-1] + 2, 2, 8))
    options = {"causal": True, "attention_chunk_size": chunk, "return_lse": True}
    out, lse = jax_aiter.flash_attention_varlen(q, k, v, cu_q, cu_k, 130, 140, **options)
    want, want_lse = np.zeros(out.shape), np.full((len(q), 4), -np.inf)
    for i, j in zip(map(slice, cu_q, cu_q[1:]), map(slice, cu_k, cu_k[1:]), strict=True):
        mask = window_mask(i.stop - i.start, j.stop - j.start, True, chunk=chunk)
        want[i], want_lse[i] = attend(q[i], k[j], v[j], mask, scale=8**-0.5)
    assert_close(out, want)
    np.testing.assert_allclose(lse.T, want_lse, **LSE)


@pytest.mark.parametrize("ragged", [False, True])
def test_gradients_against_torch_autograd(ragged):
    """float32 on both sides: 2^-17 of the largest gradient is ample for sums over at most 40 keys or queries."""
    sq, sk, chunk = 30, 40, 16
    q, k, v, dout = draw((1, sq, 4, 8), (1, sk, 2, 8), (1, sk, 2, 8), (1, sq, 4, 8))

    def ours(q, k, v):
        options = {"causal": True, "attention_chunk_size": chunk}
        if ragged:
            out = jax_aiter.flash_attention_varlen(q[0], k[0], v[0], packed(sq), packed(sk), sq, sk, **options)[None]
        else:
            out = jax_aiter.flash_attention(q, k, v, **options)
        return jnp.sum(out * dout)

    got = jax.jit(jax.grad(ours, (0, 1, 2)))(q, k, v)
    tq, tk, tv = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (q, k, v))
    s = torch.einsum("bqhd,bkhd->bhqk", tq, tk.repeat_interleave(2, 2)) * 8**-0.5
    p = torch.softmax(s.masked_fill(~torch.tensor(window_mask(sq, sk, True, chunk=chunk)), -torch.inf), -1)
    (torch.einsum("bhqk,bkhd->bqhd", p, tv.repeat_interleave(2, 2)) * torch.tensor(dout)).sum().backward()
    for g, t in zip(got, (tq, tk, tv), strict=True):
        assert_close(g, t.grad.numpy())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_over_a_block_table(layout):
    """Decoding, and packed queries over several chunks; chunks that are whole blocks and chunks that are not."""
    decode = Problem([5, 0, 48, 49, 40], 4, 2, layout=layout)
    assert_close(decode.call(attention_chunk_size=16), decode.want(chunk=16))
    ragged = Problem([37, 20, 9], 4, 2, layout=layout, queries=[30, 1, 9])
    assert_close(ragged.call(cu_seqlens=ragged.cu, attention_chunk_size=12), ragged.want(chunk=12))
    assert_close(unified.call(ragged, attention_chunk_size=32, sliding_window=9), ragged.want(chunk=32, window=9))


@pytest.mark.parametrize("size", [None, 0, 2**30])
def test_one_chunk_hides_nothing(size):
    (q,) = draw((1, 9, 2, 8))
    got = jax_aiter.flash_attention(q, q, q, causal=True, attention_chunk_size=size)
    assert_close(got[0], attend(q[0], q[0], q[0], window_mask(9, 9, True), scale=8**-0.5)[0])


def test_bad_chunks():
    q = jnp.ones((1, 4, 2, 8))
    with pytest.raises(ValueError, match="flash_attention: attention_chunk_size is 4 with causal=False"):
        jax_aiter.flash_attention(q, q, q, attention_chunk_size=4)
    with pytest.raises(ValueError, match="attention_chunk_size"):
        jax_aiter.flash_attention(q, q, q, causal=True, attention_chunk_size=-1)
