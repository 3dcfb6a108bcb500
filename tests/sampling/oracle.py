"""Cuts by sorting in float64, and a chi-square test of counts."""

import numpy as np
from scipy.special import chdtrc

#: How often a right sampler would fail one comparison of a fixed seed; there are some forty of them.
ALPHA = 1e-6


def kept(probs, top_k=None, top_p=None, min_p=None, order="joint") -> np.ndarray:
    """bool [V] of one row: what is more probable is counted and summed for each token, without a threshold."""
    probs = np.maximum(np.asarray(probs, np.float64), 0)
    larger = probs[None, :] > probs[:, None]
    keep = np.ones(len(probs), bool)
    if top_k is not None and 1 <= top_k <= len(probs):
        keep &= larger.sum(1) < top_k
    if top_p is not None and top_p < 1:
        first = order == "top_k_first" and top_k is not None
        weights = np.where(keep, probs, 0) / (probs[keep].sum() or 1) if first else probs
        keep &= ((larger * weights[None, :]).sum(1) < top_p) | (probs == probs.max(initial=0))
    if min_p is not None:
        keep &= probs >= min_p * probs.max(initial=0)
    return keep


def renormed(probs, **cuts) -> np.ndarray:
    left = np.where(kept(probs, **cuts), np.maximum(np.asarray(probs, np.float64), 0), 0)
    return left / (left.sum() or 1.0)


def p_value(counts, probs) -> float:
    """Of the counts of independent draws from `probs`; 0 where something impossible was drawn."""
    counts, probs = np.asarray(counts, np.float64), np.asarray(probs, np.float64) / np.sum(probs)
    if counts[probs == 0].any():
        return 0.0
    expected = probs[probs > 0] * counts.sum()
    assert expected.min() >= 5, "too few draws for a chi-square test"
    return float(chdtrc(max(len(expected) - 1, 1), ((counts[probs > 0] - expected) ** 2 / expected).sum()))


def assert_drawn_from(tokens, probs) -> None:
    counts = np.bincount(np.asarray(tokens).reshape(-1), minlength=len(probs))
    assert len(counts) == len(probs), "a token outside of the row"
    assert p_value(counts, probs) > ALPHA, (counts, np.asarray(probs) * counts.sum())
