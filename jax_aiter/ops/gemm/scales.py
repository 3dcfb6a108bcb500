"""Dequantisation factors as they come: per tensor or per row, in the shapes that quantisers of AITER, vLLM and PyTorch give.

The records and the kernels behind them read one factor per row (AITER's kernels read a vector of them), so that is what they are
given: a factor for all is spread over the rows first, which costs no more than it writes.
"""

import jax
import jax.numpy as jnp


def column(scale: jax.Array, rows: tuple[int, ...]) -> jax.Array:
    """`scale` as ``[*rows, 1]``.

    It may be that, lack the last axis, have axes of size 1 that stand for all of `rows`, or be one number of any rank. What is
    none of these comes back as a record can name what is wrong with it.
    """
    if scale.shape == (*rows, 1):
        return scale
    if all(size == 1 for size in scale.shape):
        scale = scale.reshape((1,) * (len(rows) + 1))
    elif scale.shape == rows or (scale.ndim == len(rows) and scale.shape[-1] != 1):
        scale = jnp.expand_dims(scale, -1)
    fits = scale.ndim == len(rows) + 1 and scale.shape[-1] == 1
    if not fits or any(size not in (1, of) for size, of in zip(scale.shape, rows, strict=False)):
        return scale
    return jnp.broadcast_to(scale, (*rows, 1))
