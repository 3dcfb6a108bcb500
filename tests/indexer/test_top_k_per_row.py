"""The per-row top-k references against torch.topk, and against a bit-exact sort where logits are equal, signed zeros or NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from jax_aiter import top_k_per_row_decode, top_k_per_row_prefill


def torch_top_k(row, lo, hi, k):
    taken = torch.from_numpy(np.array(row[lo:hi])).topk(min(k, max(hi - lo, 0))).indices.sort().values.numpy() + lo
    return np.concatenate([taken, np.full(k - len(taken), -1)])


@pytest.mark.parametrize(("columns", "k"), [(1, 1), (7, 3), (64, 64), (100, 128), (3000, 2048), (5001, 4097)])
def test_prefill(columns, k):
    rng = np.random.default_rng(columns)
    logits = rng.standard_normal((6, columns)).astype(np.float32)
    bounds = np.sort(rng.integers(0, columns + 1, (6, 2)), axis=1)
    bounds[0], bounds[1] = (0, columns), (columns, columns)
    got = np.asarray(top_k_per_row_prefill(logits, bounds[:, 0].astype(np.int32), bounds[:, 1].astype(np.int32), k=k))
    for row, (lo, hi), indices in zip(logits, bounds, got, strict=True):
        assert (indices == torch_top_k(row, lo, hi, k)).all()


@pytest.mark.parametrize("next_n", [1, 2, 3])
def test_decode(next_n):
    rng = np.random.default_rng(next_n)
    lengths = np.array([20, 5, next_n, 13], np.int32)
    logits = rng.standard_normal((4 * next_n, 20)).astype(np.float32)
    got = np.asarray(top_k_per_row_decode(logits, next_n, lengths, k=8))
    for row, indices in enumerate(got):
        end = lengths[row // next_n] - next_n + row % next_n + 1
        assert (indices == torch_top_k(logits[row], 0, end, 8)).all()


def test_ties_zeros_infinities_and_nan():
    row = np.array([1, -0.0, 0.0, 1, -np.inf, np.inf, np.nan, 1, -1], np.float32)
    order = [6, 5, 0, 3, 7, 2, 1, 8, 4]  # NaN (positive), inf, the ones by column, 0, -0, -1, -inf
    for k in range(1, 10):
        got = np.asarray(top_k_per_row_prefill(row[None], np.array([0], np.int32), np.array([9], np.int32), k=k, stable=True))
        assert (got[0] == np.sort(order[:k])).all()


def test_minus_infinity_inside_the_range_comes_before_what_lies_outside():
    row = np.full((1, 6), -np.inf, np.float32)
    got = top_k_per_row_prefill(row, np.array([2], np.int32), np.array([5], np.int32), k=4)
    assert (np.asarray(got) == [[2, 3, 4, -1]]).all()


def test_bounds_outside_the_row():
    logits = np.arange(4, dtype=np.float32)[None]
    got = top_k_per_row_prefill(logits, np.array([-3], np.int32), np.array([9], np.int32), k=2)
    assert (np.asarray(got) == [[2, 3]]).all()
    assert (np.asarray(top_k_per_row_decode(logits, 1, np.array([99], np.int32), k=2)) == [[2, 3]]).all()
    assert (np.asarray(top_k_per_row_decode(logits, 1, np.array([-1], np.int32), k=2)) == -1).all()
    with jax_aiter.debug_checks(), pytest.raises(Exception, match="0 <= seq_lens <= L"):
        jax.block_until_ready(top_k_per_row_decode(logits, 1, np.array([99], np.int32), k=2))


def test_errors_name_argument_and_rule():
    logits, one = jnp.zeros((4, 8)), jnp.zeros(4, jnp.int32)
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        top_k_per_row_prefill(logits, one, one, k=0)
    with pytest.raises(ValueError, match=r"dimension 0 of logits is 4, must be B \* next_n = 4 \* 2"):
        top_k_per_row_decode(logits, 2, one)
    with pytest.raises(TypeError, match="logits has dtype bfloat16, must be float32"):
        top_k_per_row_prefill(logits.astype(jnp.bfloat16), one, one)
    with pytest.raises(TypeError, match="seq_lens has dtype float32, must be int32"):
        top_k_per_row_decode(logits, 1, one.astype(jnp.float32))
