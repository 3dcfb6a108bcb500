"""The selection that the per-row top-k ops share."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import symbolic
from jax_aiter.core.reads import NOTHING, Reads

LAST = 0x7FFFFFFF


def reads(logits: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Reads:
    """One group per row; it reads its columns from `starts` up to `ends`."""
    rows, columns = logits.shape
    column = np.arange(columns)
    inside = (starts[:, None] <= column) & (column < ends[:, None])
    label = np.where(inside.any(1), np.arange(rows), NOTHING)[:, None]
    return Reads(rows, {"indices": label}, {"logits": np.eye(rows, dtype=bool)[..., None] & inside})


def select(logits: jax.Array, starts: jax.Array, ends: jax.Array, k: int) -> jax.Array:
    """Columns of the k largest of ``logits[r, starts[r]:ends[r]]``, in ascending order, then -1.

    The order is that of AITER's radix selection, over bit patterns: -0.0 is below 0.0, NaNs lie beyond the infinity of their sign.
    Among equals the lowest column is taken.
    """
    rows, columns = logits.shape
    bits = jax.lax.bitcast_convert_type(logits, jnp.int32)
    # As signed integers ascending where the float descends. One key and one payload, which GPUs sort by radix: what is outside is
    # the largest number, and the one NaN that has it goes with its neighbour.
    key = jnp.where(bits < 0, bits & LAST, ~bits)
    column = jax.lax.broadcasted_iota(jnp.int32, (rows, columns), 1)
    outside = (column < starts[:, None]) | (column >= ends[:, None])
    key = jnp.where(outside, LAST, jnp.minimum(key, LAST - 1))
    _, order = jax.lax.sort((key, column), num_keys=1, is_stable=True)
    taken = jnp.minimum(k, jnp.maximum(jnp.minimum(ends, columns) - jnp.maximum(starts, 0), 0))
    missing = k if symbolic.is_symbolic(columns) else max(k - columns, 0)
    order = jnp.pad(order, ((0, 0), (0, missing)))[:, :k]
    kept = jnp.arange(k) < taken[:, None]
    sorted_ = jnp.sort(jnp.where(kept, order, columns), axis=1)
    return jnp.where(kept, sorted_, -1)
