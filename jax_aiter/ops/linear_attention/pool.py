"""Lines of a pool of states: read where they stand, and replaced in place, even where the CPU backend would widen the pool."""

import jax
import jax.numpy as jnp

from jax_aiter.core import machine
from jax_aiter.ops.shared import narrow


def take(states: jax.Array, index: jax.Array, there: jax.Array) -> jax.Array:
    """``[N, ...]``: the line of each sequence, zeros where it is not `there`."""
    if not states.shape[0]:
        return jnp.zeros((index.shape[0], *states.shape[1:]), states.dtype)
    taken = narrow.read(states, jnp.clip(index, 0, states.shape[0] - 1), lambda states, index: states[index])
    return jnp.where(there.reshape(-1, *[1] * (states.ndim - 1)), taken, jnp.zeros((), states.dtype))


def put(states: jax.Array, index: jax.Array, written: jax.Array, rows: jax.Array) -> jax.Array:
    """The pool with the first rows of each sequence's line replaced by ``rows [N, R, ...]``, where it is `written`."""
    if not states.shape[0] or not rows.size:
        return states
    target = jnp.where(written, index, states.shape[0] + jnp.arange(index.shape[0], dtype=jnp.int32))  # past the end, none twice
    return _put(states, target, rows.astype(states.dtype))


def _scatter(states: jax.Array, target: jax.Array, rows: jax.Array) -> jax.Array:
    return states.at[target, : rows.shape[1]].set(rows, mode="drop", unique_indices=True)


@jax.custom_jvp
def _put(states: jax.Array, target: jax.Array, rows: jax.Array) -> jax.Array:
    if machine.is_gpu() or not narrow.widened(states.dtype):
        return _scatter(states, target, rows)

    def step(i, states):  # XLA's CPU backend has no scatter of bfloat16, and would widen the whole pool for one
        at = [target[i], *[jnp.int32(0)] * (states.ndim - 1)]
        put = lambda states: jax.lax.dynamic_update_slice(states, rows[i][None], at)  # noqa: E731
        return jax.lax.cond(target[i] < states.shape[0], put, lambda states: states, states)

    return jax.lax.fori_loop(0, target.shape[0], step, states)


@_put.defjvp
def _put_jvp(primals, tangents):
    (_, target, _), (dstates, _, drows) = primals, tangents
    return _put(*primals), _scatter(dstates, target, drows)
