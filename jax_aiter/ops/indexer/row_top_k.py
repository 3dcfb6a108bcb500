"""The selection that the per-row top-k ops share."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import machine, symbolic
from jax_aiter.core.reads import NOTHING, Reads

NAME = "the rows' top_k, as integers"
SIGN, LOWEST = np.uint32(0x80000000), np.uint32(0xFFFFFFFF)  # LOWEST: a negative NaN


def reads(logits: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Reads:
    """One group per row; it reads its columns from `starts` up to `ends`."""
    rows, columns = logits.shape
    column = np.arange(columns)
    inside = (starts[:, None] <= column) & (column < ends[:, None])
    label = np.where(inside.any(1), np.arange(rows), NOTHING)[:, None]
    return Reads(rows, {"indices": label}, {"logits": np.eye(rows, dtype=bool)[..., None] & inside})


def select(logits: jax.Array, starts: jax.Array, ends: jax.Array, k: int, stable: bool) -> jax.Array:
    """Columns of the k largest of ``logits[r, starts[r]:ends[r]]``, then -1; stable: in ascending order, else the largest first.

    The order is that of AITER's radix selection, over bit patterns: -0.0 is below 0.0, NaNs lie beyond the infinity of their sign.
    Among equals the lowest column is taken.
    """
    rows, columns = logits.shape
    column = jax.lax.broadcasted_iota(jnp.int32, (rows, columns), 1)
    inside = (column >= starts[:, None]) & (column < ends[:, None])
    # What is outside is the least of all patterns, and the one NaN that has it goes with its neighbour.
    bits = jnp.where(inside, jnp.minimum(jax.lax.bitcast_convert_type(logits, jnp.uint32), LOWEST - 1), LOWEST)
    order = _largest(bits, k)
    taken = jnp.minimum(k, jnp.maximum(jnp.minimum(ends, columns) - jnp.maximum(starts, 0), 0))
    kept = jnp.arange(k) < taken[:, None]
    if not stable:
        return jnp.where(kept, order, -1)
    return jnp.where(kept, jnp.sort(jnp.where(kept, order, columns), axis=1), -1)


def _largest(bits: jax.Array, k: int) -> jax.Array:
    """Columns [rows, k] of the largest of each row of floats' bit patterns, the first of equals first; any where none is.

    A CPU's `top_k` of floats selects by just this order, in a fraction of a sort's time; of integers it would sort. On a GPU it is
    a sort of keys and columns either way, by radix where that is faster; but that of floats may count -0.0 as 0.0, and for few of a
    long row it calls a kernel that knows no NaN, so it is given integers of the same order. A program that XLA splits over devices
    sorts: XLA would gather the rows of a `top_k` first.
    """
    if symbolic.is_symbolic(bits.shape[1]) or bits.shape[1] < k:
        missing = k if symbolic.is_symbolic(bits.shape[1]) else k - bits.shape[1]
        bits = jnp.pad(bits, ((0, 0), (0, missing)), constant_values=LOWEST)
    if machine.is_split():
        # Descending: one key and one payload, which GPUs sort by radix.
        column = jax.lax.broadcasted_iota(jnp.int32, bits.shape, 1)
        return jax.lax.sort((~_ascending(bits), column), num_keys=1, is_stable=True)[1][:, :k]
    key = _ascending(bits) if machine.is_gpu() else jax.lax.bitcast_convert_type(bits, jnp.float32)
    return jax.lax.top_k(key, k)[1]


def _ascending(bits: jax.Array) -> jax.Array:
    """As integers in the order of the floats: unsigned ones, which XLA has sorted by radix for longest."""
    return jnp.where(bits >= SIGN, ~bits, bits | SIGN)
