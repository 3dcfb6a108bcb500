"""Inclusive prefix sums of short integer vectors."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic


def running_sum(x: jax.Array, add: Callable[[jax.Array, jax.Array], jax.Array] = jnp.add) -> jax.Array:
    """``jnp.cumsum`` of a vector by another way; `add` is associative, and 0 adds nothing.

    From jax 0.11.2 on, a program exported for several platforms lowers ``cumsum`` to an HLO ``scan``, and XLA's CPU compiler aborts
    the process on it (computation_partitioner.cc, opcode call). A tree of additions compiles everywhere;
    where the length is symbolic, and with it the depth of the tree, every sum grows by doubled distances in a loop.
    """
    size = x.shape[0]
    if not symbolic.is_symbolic(size):
        return jax.lax.associative_scan(add, x)

    def double(state):
        total, distance = state
        behind = jax.lax.dynamic_slice_in_dim(jnp.pad(total, (size, 0)), size - distance, size)
        return add(total, behind), 2 * distance

    return jax.lax.while_loop(lambda state: (state[1] > 0) & (state[1] < size), double, (x, jnp.int32(1)))[0]
