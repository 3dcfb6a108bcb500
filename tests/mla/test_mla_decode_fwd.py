"""mla_decode_fwd against float64 numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.arch import FNUZ
from tests.attention.oracle import assert_close, attend, window_mask


def build(lengths, counts, heads, page, dtype, seed=0, width=576):
    rng = np.random.default_rng(seed)
    pages = [-(-n // page) for n in lengths]
    total = sum(pages) + 4
    order = rng.permutation(total)
    tokens = [np.asarray(jnp.asarray(rng.standard_normal((n, 1, width)), dtype)) for n in lengths]
    buffer = np.full((total, page, 1, width), np.nan, dtype)
    kv_indptr = np.cumsum([0, *pages]).astype(np.int32)
    for b, rows in enumerate(tokens):
        for t, row in enumerate(rows):
            buffer[order[kv_indptr[b] + t // page], t % page] = row
    indices = np.r_[order[: kv_indptr[-1]], [10**6, -1]].astype(np.int32)
    last = np.array([n - (p - 1) * page if n else 0 for n, p in zip(lengths, pages, strict=True)], np.int32)
    q = np.asarray(jnp.asarray(rng.standard_normal((sum(counts) + 1, heads, width)), dtype))
    return q, buffer, np.cumsum([0, *counts]).astype(np.int32), kv_indptr, indices, last, tokens


@pytest.mark.parametrize(
    ("lengths", "counts", "heads", "page", "dtype", "cap", "causal"),
    [
        ([1], [1], 1, 1, np.float32, 0.0, True),
        ([63, 64, 65, 0], [1, 1, 1, 1], 3, 64, np.float32, 0.0, True),
        ([5, 300], [2, 4], 16, 1, jnp.bfloat16, 0.0, True),
        ([7, 40], [3, 4], 2, 16, np.float32, 2.0, False),
    ],
)
def test_against_float64(lengths, counts, heads, page, dtype, cap, causal):
    *args, last, tokens = build(lengths, counts, heads, page, dtype)
    options = {"max_seqlen_qo": max(counts), "sm_scale": 0.07, "logit_cap": cap, "causal": causal, "return_lse": True}
    out, lse = jax.jit(functools.partial(jax_aiter.mla_decode_fwd, **options))(*args, last)
    q, cu = args[0], args[2]
    want, want_lse = np.zeros(out.shape), np.full(lse.shape, -np.inf)
    for b, k in enumerate(tokens):
        rows = slice(cu[b], cu[b + 1])
        mask = window_mask(counts[b], lengths[b], causal)
        score = lambda s, h, i, keys: cap * np.tanh(s / cap) if cap else s  # noqa: E731
        want[rows], want_lse[rows] = attend(q[rows], k, k[..., :512], mask, scale=0.07, score=score)
    assert_close(out, want)
    seen = np.isfinite(want_lse)
    np.testing.assert_array_equal(np.isfinite(lse), seen)
    assert_close(np.asarray(lse)[seen], want_lse[seen])


def test_fp8_with_scales():
    *args, last, tokens = build([20, 33], [1, 2], 4, 16, FNUZ)
    scales = {"q_scale": np.array([0.5], np.float32), "kv_scale": np.array([2.0], np.float32)}
    got = jax_aiter.mla_decode_fwd(*args, last, max_seqlen_qo=2, sm_scale=0.07, **scales)
    assert got.dtype == jnp.bfloat16
    q, cu = args[0].astype(np.float64) * 0.5, args[2]
    for b, k in enumerate(tokens):
        wide, rows = k.astype(np.float64) * 2, slice(cu[b], cu[b + 1])
        want = attend(q[rows], wide, wide[..., :512], window_mask(b + 1, len(k), True), scale=0.07)[0]
        assert_close(got[rows], want)


def test_vmap_over_buffers():
    built = [build([20, 3], [1, 2], 2, 16, np.float32, seed=s)[:-1] for s in (0, 1)]
    run = functools.partial(jax_aiter.mla_decode_fwd, max_seqlen_qo=2, sm_scale=0.07)
    got = jax.vmap(run)(*(np.stack(xs) for xs in zip(*built, strict=True)))
    for g, args in zip(got, built, strict=True):
        assert_close(g, np.asarray(run(*args), np.float64))
