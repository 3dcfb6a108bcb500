"""Where values stand in a sorted vector of integers, also in one whose length is symbolic."""

import jax
import jax.numpy as jnp

from jax_aiter.core import machine, symbolic

PAIRS = 1 << 26  # 0.1 ms of comparisons on a GPU


def at_or_before(ordered: jax.Array, values: jax.Array) -> jax.Array:
    """How many of `ordered` are at most each of the values, of any length: all pairs are compared."""
    return jnp.sum(ordered <= values[:, None], axis=1, dtype=jnp.int32)


def search(ordered: jax.Array, values: jax.Array, *, side: str = "left", method: str = "scan") -> jax.Array:
    """``jnp.searchsorted`` in int32, which halves as often as the length says; of a symbolic length as often as any could need.

    On a GPU all pairs are compared instead where they are not too many: a bisection there is a loop of tiny kernels.
    """
    size = ordered.shape[0]
    if machine.is_gpu() and symbolic.decided(lambda: size * values.size <= PAIRS):
        method = "compare_all"
    if not symbolic.is_symbolic(size):
        return jnp.searchsorted(ordered, values, side=side, method=method).astype(jnp.int32)

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        at = ordered[jnp.minimum(middle, size - 1)]
        right = (at < values if side == "left" else at <= values) & (low < high)
        return jnp.where(right, middle + 1, low), jnp.where(right, high, middle)

    low = jnp.zeros(values.shape, jnp.int32)
    return jax.lax.fori_loop(0, 32, halve, (low, jnp.full(values.shape, jnp.asarray(size, jnp.int32))))[0]
