"""Device time of one call of a form: N calls in one program, each of which XLA must run.

A call that is dispatched by itself takes at least what the host needs to dispatch it, some 50 µs. Here `lax.fori_loop` runs the
call N times (the number is static, so nothing waits for a condition). Between two calls XLA must not see through the operands, or
it hoists, shares or drops calls. On a GPU every operand and the last results pass through a launch plan without a step, which hands
the operands on where they lie (`handed_on`): XLA takes it for a kernel that writes them, so nothing of a call can be moved out of
the loop, and all of its results are computed; it costs nothing but the loop's own counter. (An earlier form wrote one element
again, with XLA's own operations: that copied the operand in every turn.) The operands are donated and come back, since XLA would
otherwise copy them before it starts. Elsewhere all operands are tied to the last results by a
barrier, and one element of one operand is written again. `floor` is the time of an empty call, reported and not subtracted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_aiter.cli.bench.row import Call, Operands
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.call import call_plan, nbytes

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


def handed_on(operands: Operands, previous: Any, arch: str) -> Operands:
    """The operands, as XLA must think anew: by a plan that has them for results in their own places, and launches nothing."""
    plan, results = PlanBuilder("handed_on", arch), jax.tree.leaves(previous)
    numbers = [plan.operand(nbytes(x)) for x in operands.values()]
    for x in results:
        plan.operand(nbytes(x))
    for number, x in zip(numbers, operands.values(), strict=True):
        plan.alias(number, plan.result(nbytes(x)))
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in operands.values()]
    return dict(zip(operands, call_plan(plan.build(), *operands.values(), *results, result_shape_dtypes=shapes), strict=True))


def program(call: Call, through: str, count: int, arch: str | None = None, updates: Mapping[str, int] | None = None) -> Any:
    """A jitted function of the operands, donated, that runs the call `count` times: the operands again, and the last results.

    arch: of the GPU; None for a CPU, where the operand `through` is the one that hangs on the call before. updates: operands that
    the call updates in place, with the numbers of the results that they become; these go on as operands, so that nothing is copied.
    """
    places = updates or {}

    def again(operands: Operands) -> tuple[Operands, Any]:
        results = call(operands)
        if not places:
            return operands, results
        updated = {name: results[number] for name, number in places.items()}
        return {**operands, **updated}, tuple(x for i, x in enumerate(results) if i not in places.values())

    @functools.partial(jax.jit, donate_argnums=0)
    def chained(operands: Operands) -> tuple[Operands, Any]:
        start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(again, operands)[1])

        def step(_: jax.Array, carry: Any) -> Any:
            operands, previous = carry
            if arch is None:
                # Tied to the call before, what is made of the other operands (gathered pages, say) stays in the loop too.
                operands, previous = lax.optimization_barrier((operands, previous))
                operands = {**operands, through: nudged(operands[through], previous)}
            else:
                operands = handed_on(operands, previous, arch)
            return again(operands)

        return lax.fori_loop(0, count, step, (operands, start))

    return chained


class Held:
    """Operands on the device, one set of them for all chains that take them so: each run of a chain hands them to the next run.

    make: gives the first set, and another where a run that failed has taken them along.
    """

    def __init__(self, make: Callable[[], Operands]) -> None:
        self._make = make
        self._operands: Operands | None = None

    def __call__(self) -> Operands:
        """To be read; whoever donates them takes `run`."""
        if self._operands is None:
            self._operands = self._make()
        return self._operands

    def run(self, compiled: Any) -> Any:
        operands, self._operands = self(), None
        self._operands, results = compiled(operands)
        return results


class Chain:
    """A compiled program of `program` on operands that it may share with others; a run gives the last results."""

    def __init__(self, compiled: Any, held: Held) -> None:
        self._compiled, self._held = compiled, held

    def __call__(self) -> Any:
        return self._held.run(self._compiled)


def empty(operands: Operands) -> jax.Array:
    """An op that does nothing: one number of its operand."""
    (x,) = operands.values()
    return x[(0,) * x.ndim]
