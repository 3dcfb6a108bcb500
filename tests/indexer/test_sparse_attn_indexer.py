"""The sparse indexer against a float64 loop over tokens, heads and pages.

Products of fp8 are exact in float32; D additions per head, H over heads and a few scale factors err by at most
(D + H + 4) · 2^-24 of the sum of magnitudes.
"""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jax_aiter import fp8_paged_mqa_logits, sparse_attn_indexer

FP8 = {"float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "float8_e4m3fn": ml_dtypes.float8_e4m3fn}


def make(seed, tokens, heads, dim, size, lengths, *, dtype="float8_e4m3fn", padding=0):
    """Inputs, and each sequence's dequantised keys in float64."""
    rng = np.random.default_rng(seed)
    pages = [-(-n // size) for n in lengths]
    blocks = sum(pages) + 1
    keys = rng.standard_normal((blocks, size, dim)).astype(FP8[dtype])
    scale = np.exp(rng.standard_normal((blocks, size))).astype(np.float32)
    cache = np.full((blocks, size * (dim + 4 + padding)), 0xFF, np.uint8)  # padding must not matter
    cache[:, : size * dim] = keys.view(np.uint8).reshape(blocks, -1)
    cache[:, size * dim : size * (dim + 4)] = scale.view(np.uint8).reshape(blocks, -1)
    free, width = rng.permutation(blocks), max([*pages, 1]) + 1
    tables = np.full((len(lengths), width), -1, np.int32)
    deep = []
    for i, n in enumerate(pages):
        tables[i, :n], free = free[:n], free[n:]
        wide = keys[tables[i, :n]].astype(np.float64) * scale[tables[i, :n]][..., None]
        deep.append(wide.reshape(-1, dim)[: lengths[i]])
    q = rng.standard_normal((tokens, heads, dim)).astype(FP8[dtype])
    weights = rng.standard_normal((tokens, heads)).astype(np.float32)
    args = (q, cache.reshape(blocks, size, -1), weights, tables, np.array(lengths, np.int32))
    return tuple(map(jnp.asarray, args)), deep


def check(args, deep, counts, **options):
    q, weights = (np.asarray(args[i]).astype(np.float64) for i in (0, 2))
    logits = np.asarray(fp8_paged_mqa_logits(*args, **options))
    token = 0
    for keys, count in zip(deep, counts, strict=True):
        for j in range(count):
            end = max(len(keys) - count + j + 1, 0)
            heads = np.maximum(q[token] @ keys[:end].T, 0)
            bound = np.abs(weights[token]) @ (np.abs(q[token]) @ np.abs(keys[:end].T)) * (q.shape[1] + q.shape[2] + 4) * 2.0**-24
            assert (np.abs(logits[token, :end] - weights[token] @ heads) <= bound).all()
            assert (logits[token, end:] == -np.inf).all()
            token += 1
    assert (logits[token:] == -np.inf).all()


@pytest.mark.parametrize("dtype", FP8)
@pytest.mark.parametrize("size", [1, 16, 64])
@pytest.mark.parametrize("next_n", [1, 2])
def test_decode(next_n, size, dtype):
    lengths = [1, size - 1 or 1, size, size + 1, 3 * size + 5]
    args, deep = make(size, next_n * len(lengths), 4, 32, size, lengths, dtype=dtype, padding=4)
    check(args, deep, [next_n] * len(lengths))


def test_ragged_prefill():
    lengths, counts = [20, 7, 33], [5, 7, 0]
    args, deep = make(3, sum(counts) + 2, 8, 64, 16, lengths)  # two tokens belong to no sequence
    check(args, deep, counts, cu_seqlens_q=jnp.asarray([0, 5, 12, 12], jnp.int32))


def test_selection():
    args, deep = make(4, 3, 4, 32, 16, [40, 3, 17])
    logits, found = np.asarray(fp8_paged_mqa_logits(*args)), np.asarray(sparse_attn_indexer(*args, topk=8, stable=True))
    for row, indices, keys in zip(logits, found, deep, strict=True):
        taken = min(8, len(keys))
        assert (indices[taken:] == -1).all()
        assert (indices[:taken] == np.sort(np.argsort(-row, kind="stable")[:taken])).all()


def test_errors_name_argument_and_rule():
    args, _ = make(5, 4, 2, 32, 16, [5, 6])
    with pytest.raises(ValueError, match=r"dimension 2 of kv_cache is 35, must be at least D \+ 4 = 36"):
        fp8_paged_mqa_logits(args[0], args[1][..., :35], *args[2:])
    with pytest.raises(ValueError, match="dimension 0 of q is 3, must be a multiple of B = 2"):
        fp8_paged_mqa_logits(args[0][:3], args[1], args[2][:3], *args[3:])
    with pytest.raises(ValueError, match=r"dimension 0 of cu_seqlens_q is 2, must be B \+ 1 = 3"):
        fp8_paged_mqa_logits(*args, cu_seqlens_q=jnp.zeros(2, jnp.int32))
    with pytest.raises(TypeError, match="kv_cache has dtype int8, must be uint8"):
        fp8_paged_mqa_logits(args[0], args[1].astype(jnp.int8), *args[2:])
    with pytest.raises(ValueError, match="topk must be >= 1, got 0"):
        sparse_attn_indexer(*args, topk=0)
