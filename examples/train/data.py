"""Batches by number: which one comes next is all that a run has to remember of its data."""

import numpy as np


def batch(text: np.ndarray, number: int, count: int, sequence: int, seed: int) -> np.ndarray:
    """Random windows int32 ``[count, sequence + 1]`` over the bytes ``text``, the same for the same number and seed."""
    if len(text) <= sequence:
        raise ValueError(f"the text has {len(text)} bytes, a window {sequence + 1}")
    starts = np.random.default_rng([seed, number]).integers(0, len(text) - sequence, count)
    return text[starts[:, None] + np.arange(sequence + 1)].astype(np.int32)
