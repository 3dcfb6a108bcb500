"""Multi-head latent attention in float64, and calls with random page tables."""

import dataclasses

import jax.numpy as jnp
import ml_dtypes
import numpy as np

SCALE = 1 / np.sqrt(576)
FP8 = {"gfx942": ml_dtypes.float8_e4m3fnuz, "gfx950": ml_dtypes.float8_e4m3fn}
BF16 = ml_dtypes.bfloat16


@dataclasses.dataclass
class Problem:
    q: np.ndarray
    kv_buffer: np.ndarray
    qo_indptr: np.ndarray
    kv_indptr: np.ndarray
    kv_indices: np.ndarray
    kv_last_page_lens: np.ndarray
    lengths: list[int]

    def arguments(self):
        return (self.q, self.kv_buffer, self.qo_indptr, self.kv_indptr, self.kv_indices, self.kv_last_page_lens)


def problem(rng, lengths, counts, heads, *, page=1, q=BF16, kv=BF16, spare_rows=0) -> Problem:
    """Pages in random order. Places that no sequence has hold NaN, but for page 0: see the ops' note on its first token.

    Behind the page table's used entries stand numbers outside the cache.
    """
    pages = [-(-n // page) for n in lengths]
    total = sum(pages) + 4
    order = 1 + rng.permutation(total - 1)
    kv_indptr = np.cumsum([0, *pages]).astype(np.int32)
    buffer = np.full((total, page, 1, 576), np.nan, kv)
    buffer[0] = 3.0
    for b, n in enumerate(lengths):
        for first in range(0, n, page):
            size = min(page, n - first)
            values = rng.standard_normal((size, 1, 576), dtype=np.float32)
            buffer[order[kv_indptr[b] + first // page], :size] = np.asarray(jnp.asarray(values), np.float32).astype(kv)
    last = np.array([n - (p - 1) * page if n else 1 for n, p in zip(lengths, pages, strict=True)], np.int32)
    rows = sum(counts) + spare_rows
    queries = rng.standard_normal((rows, heads, 576), dtype=np.float32).astype(q)
    indices = np.r_[order[: kv_indptr[-1]], [10**6, -1]].astype(np.int32)
    return Problem(queries, buffer, np.cumsum([0, *counts]).astype(np.int32), kv_indptr, indices, last, list(lengths))


def oracle(x: Problem, *, causal=True, q_scale=1.0, kv_scale=1.0):
    """Output, log-sum-exp, and the sum of the probabilities times the values' magnitudes."""
    q, buffer = x.q.astype(np.float64) * q_scale, x.kv_buffer.astype(np.float64) * kv_scale
    out, lse = np.zeros((*q.shape[:2], 512)), np.full(q.shape[:2], -np.inf)
    size = np.zeros_like(out)
    for b, length in enumerate(x.lengths):
        pages = x.kv_indices[x.kv_indptr[b] : x.kv_indptr[b + 1]]
        keys = buffer[pages].reshape(-1, 576)[:length]
        first, last = x.qo_indptr[b : b + 2]
        for row in range(first, last):
            seen = keys[: max(length - (last - 1 - row), 0) if causal else length]
            if not len(seen):
                continue
            score = q[row] @ seen.T * SCALE
            top = score.max(-1, keepdims=True)
            weight = np.exp(score - top)
            total = weight.sum(-1, keepdims=True)
            out[row], lse[row] = weight / total @ seen[:, :512], (top + np.log(total))[:, 0]
            # Probabilities relative to the largest, and the half step of 2^-10 that a tiny one may lose in fp8.
            size[row] = (weight * 2.0**-4 + 2.0**-10) / total @ np.abs(seen[:, :512])
    return out, lse, size


def check(x: Problem, results, *, causal=True, q_scale=1.0, kv_scale=1.0):
    """Within two units in the last place of bfloat16, scaled by the row's largest element.

    With fp8 queries the kernels also round probabilities to e4m3, three bits of mantissa: each is off by at most 2^-4 of itself or
    half the smallest step, and the output by the sum of that times the values. Errors of such a sum have random signs: their
    root mean square stays below 2^-4 / sqrt(3) of the terms', hence of the output's.
    """
    want, want_lse, steps = oracle(x, causal=causal, q_scale=q_scale, kv_scale=kv_scale)
    out = np.asarray(results[0], np.float64)
    ulps = 2 * 2.0**-8 * np.abs(want).max(-1, keepdims=True)
    error = np.abs(out - want)
    assert np.isfinite(out).all()
    if x.q.dtype.itemsize == 1:
        assert (error <= ulps + steps).all(), (error - ulps - steps).max()
        assert np.sqrt((error**2).mean()) <= 2.0**-4 / np.sqrt(3) * np.sqrt((want**2).mean()) + ulps.max()
    else:
        assert (error <= ulps).all(), (error / np.maximum(ulps, 1e-30)).max()
    if len(results) > 1:
        lse, seen = np.asarray(results[1], np.float64), np.isfinite(want_lse)
        np.testing.assert_array_equal(np.isfinite(lse), seen)
        # Scores are sums of 576 products in float32, exponentials and sums likewise.
        np.testing.assert_allclose(lse[seen], want_lse[seen], rtol=0, atol=2e-5)
