"""Attention over chosen tokens against dense attention in float64, masked to the same choice.

Scores are sums of D products, of magnitude up to 4 after the scale: float32 errs by D · 2^-24 of them, outputs by a few such
relative errors of values of magnitude 4.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter import mla_sparse_fwd, req_to_global_index


def dense(q, kv, indices, scale, value):
    """Each row over all slots, those that are not listed masked; a slot listed n times weighs n times. Output and log-sum-exp."""
    keys = kv.reshape(-1, kv.shape[-1]).astype(np.float64)
    out, lse = np.zeros((*q.shape[:2], value)), np.full(q.shape[:2], -np.inf)
    for t, row in enumerate(indices):
        times = np.bincount(row[(row >= 0) & (row < len(keys))], minlength=len(keys))
        if times.any():
            scores = np.where(times > 0, q[t].astype(np.float64) @ keys.T * scale, -np.inf)
            top = scores.max(-1, keepdims=True)
            weights = np.exp(scores - top) * times
            out[t] = weights @ keys[:, :value] / weights.sum(-1, keepdims=True)
            lse[t] = top[:, 0] + np.log(weights.sum(-1))
    return out, lse


def made(seed, tokens, heads, dim, pages, page, k):
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((tokens, heads, dim)).astype(np.float32)
    kv = rng.standard_normal((pages, page, 1, dim)).astype(np.float32)
    rows = [rng.permutation(pages * page)[:k] for _ in range(tokens)]
    return q, kv, np.array(rows, np.int32).reshape(tokens, k)


def check(q, kv, indices, scale, value, tolerance=1e-5):
    out, lse = mla_sparse_fwd(q, kv, indices, sm_scale=scale, v_head_dim=value, return_lse=True)
    want, sums = dense(np.asarray(q), np.asarray(kv), np.asarray(indices), scale, value)
    np.testing.assert_allclose(np.asarray(out), want, atol=tolerance)
    np.testing.assert_allclose(np.asarray(lse), sums, atol=tolerance)


@pytest.mark.parametrize(("tokens", "heads", "page", "k"), [(1, 1, 1, 1), (7, 3, 4, 5), (3, 2, 1, 28), (4, 5, 7, 17)])
def test_chosen_slots(tokens, heads, page, k):
    q, kv, indices = made(k, tokens, heads, 40, -(-28 // page), page, k)
    check(q, kv, indices, 0.15, 32)


def test_entries_that_are_none_stand_anywhere_and_lists_may_be_short_or_empty():
    q, kv, indices = made(1, 5, 2, 24, 6, 4, 6)
    indices[0, [0, 3]], indices[1], indices[2, 1:], indices[3, 2] = -1, -1, -7, 24  # 24: one past the last slot
    check(q, kv, indices, 0.2, 16)
    out, lse = mla_sparse_fwd(q, kv, indices, sm_scale=0.2, v_head_dim=16, return_lse=True)
    assert not np.asarray(out[1]).any()
    assert (np.asarray(lse[1]) == -np.inf).all()


def test_a_slot_listed_twice_counts_twice():
    q, kv, indices = made(2, 3, 2, 24, 6, 4, 6)
    indices[0] = indices[0, 0]
    indices[1, 3:] = indices[1, :3]
    indices[2, 0] = indices[2, 5]
    check(q, kv, indices, 0.2, 16)


def test_what_is_not_listed_is_not_read():
    q, kv, indices = made(3, 3, 2, 24, 6, 4, 3)
    kept = np.isin(np.arange(24), indices).reshape(6, 4, 1, 1)
    check(q, np.where(kept, kv, 0), indices, 0.2, 16)
    got = mla_sparse_fwd(q, np.where(kept, kv, np.nan).astype(np.float32), indices, sm_scale=0.2, v_head_dim=16)
    np.testing.assert_array_equal(got, mla_sparse_fwd(q, kv, indices, sm_scale=0.2, v_head_dim=16))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_no_queries_and_no_entries(shape):
    q, kv, _ = made(4, shape[0], 2, 24, 6, 4, 0)
    out = mla_sparse_fwd(q, kv, np.zeros(shape, np.int32), sm_scale=0.2, v_head_dim=16)
    assert out.shape == (shape[0], 2, 16)
    assert not np.asarray(out).any()


def test_under_jit_and_vmap():
    """Batches of lists over one cache."""
    q, kv, indices = made(5, 4, 2, 24, 6, 4, 5)
    run = jax.jit(lambda q, indices: mla_sparse_fwd(q, kv, indices, sm_scale=0.2, v_head_dim=16))
    got = jax.vmap(run)(q.reshape(2, 2, 2, 24), indices.reshape(2, 2, 5))
    np.testing.assert_allclose(np.asarray(got).reshape(4, 2, 16), run(q, indices), atol=1e-6)


def test_positions_become_slots():
    table = np.array([[4, 2, -1], [0, 9, 3]], np.int32)
    positions = np.array([[0, 5, -1, 8], [11, 4, 12, 100], [1, 1, 1, 1], [0, 2, 3, 4]], np.int32)
    got = req_to_global_index(np.array([0, 1, 2, 1], np.int32), table, positions, block_size=4)
    assert np.asarray(got).tolist() == [[16, 9, -1, -1], [15, 36, -1, -1], [-1] * 4, [0, 2, 3, 36]]


def test_errors_name_argument_and_rule():
    q, kv, indices = made(6, 3, 2, 24, 6, 4, 5)
    with pytest.raises(ValueError, match=r"q must have 3 dimensions \[Tq Hq D\] with Tq = 2"):
        mla_sparse_fwd(q, kv, indices[:2], sm_scale=0.2, v_head_dim=16)
    with pytest.raises(ValueError, match=r"indices must have 2 dimensions \[Tq k\]"):
        mla_sparse_fwd(q, kv, indices[0], sm_scale=0.2, v_head_dim=16)
    with pytest.raises(TypeError, match="indices has dtype float32, must be int32"):
        mla_sparse_fwd(q, kv, indices.astype(np.float32), sm_scale=0.2, v_head_dim=16)
    with pytest.raises(ValueError, match="v_head_dim must be given"):
        mla_sparse_fwd(q, kv, indices, sm_scale=0.2)
    with pytest.raises(ValueError, match="block_size must be >= 1, got 0"):
        req_to_global_index(jnp.zeros(3, jnp.int32), indices, indices, block_size=0)
    with pytest.raises(ValueError, match="req_id has 2 elements, must be dimension 0 of token_indices, 3"):
        req_to_global_index(jnp.zeros(2, jnp.int32), indices, indices, block_size=4)
