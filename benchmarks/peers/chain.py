"""Device time of one call of a form: N calls in one program, each of which XLA must run.

A call that is dispatched by itself takes at least what the host needs to dispatch it, some 50 µs. Here `lax.fori_loop` runs the
call N times (the number is static, so nothing waits for a condition). Before each call one element of one operand is written
again, with its own value unless the *previous* call's result says otherwise, which XLA cannot know: so no call can be hoisted out
of the loop, shared with another or dropped. The results travel in the loop's carry, so that all of each is computed. The operand
is updated in place, and what the loop adds is one small kernel per call and the loop's own counter: `floor` is the time of that
alone, reported and not subtracted.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.peers.row import Call, Operands

CHAIN_S = 4e-3  # a chain is meant to take at least this long at the card's limit: the dispatch is then about 1 % of it
MOST, LEAST = 256, 2
#: No result is this: a normal number of this size does not come up, and a probability or an id is not it.
NEVER = 1.2345678e30


def calls(seconds_at_limit: float) -> int:
    """How many calls of at least that many seconds each a chain holds: a power of two, so that it seldom hangs on the noise in the
    rates that the seconds were worked out from, and a second run finds the programs of the first in JAX's persistent cache.
    """
    return 1 << round(math.log2(max(LEAST, min(MOST, CHAIN_S / max(seconds_at_limit, 1e-9)))))


def nudged(x: jax.Array, previous: Any) -> jax.Array:
    """x with its first element written again; its value hangs on the previous call's result."""
    result = jax.tree.leaves(previous)[0]
    seen = result[(0,) * result.ndim].astype(jnp.float32)
    first = x[(0,) * x.ndim]
    return lax.dynamic_update_slice(x, jnp.where(seen == NEVER, jnp.zeros_like(first), first).reshape((1,) * x.ndim), (0,) * x.ndim)


def program(call: Call, through: str, count: int) -> Any:
    """A jitted function of the operands that runs the call `count` times and returns the last results."""

    @jax.jit
    def chained(operands: Operands) -> Any:
        start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(call, operands))

        def step(_: jax.Array, carry: Any) -> Any:
            x, previous = carry
            x = nudged(x, previous)
            return x, call({**operands, through: x})

        return lax.fori_loop(0, count, step, (operands[through], start))[1]

    return chained


def empty(operands: Operands) -> jax.Array:
    """An op that does nothing: one number of its operand."""
    (x,) = operands.values()
    return x[(0,) * x.ndim]
