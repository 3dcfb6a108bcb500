"""Time of one call of an op, per implementation, on the present device."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax

from jax_aiter.bind.op import Op

ROUNDS = 9
QUEUE_S = 0.01  # long enough that the clock and the wait at the end do not show
MAX_CALLS = 400
BUDGET_S = 3.0  # slow calls are repeated in fewer rounds; their median is steady anyway

Name = TypeVar("Name")


def side_by_side(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds per call of each function, which starts one call and returns something to wait for.

    Each is timed in queues of asynchronous calls of one compiled program, the functions in turns so that a drift of the device's
    clock hits all alike. The result is what a jitted call costs: the device's time, or the host's to dispatch it (some 10 to 20 µs)
    where that is longer. Several calls inside one program would not do for XLA's own: it removes optimization barriers before it
    looks for common subexpressions, and then shares, drops or fuses the calls. (Launch plans can be kept apart: `tile_times`.)
    """
    return {name: statistics.median(values) for name, values in rounds(calls).items()}


def rounds(calls: Mapping[Name, Callable[[], Any]], most: int = ROUNDS, queue_s: float = QUEUE_S) -> dict[Name, list[float]]:
    """Seconds per call of each function in each of up to `most` rounds, as `side_by_side` times them."""
    counts, times = {}, {name: [] for name in calls}
    for name, call in calls.items():
        jax.block_until_ready(call())  # compiles, loads modules
        once = statistics.median(_queue(call, 1) for _ in range(3))
        counts[name] = min(MAX_CALLS, max(2, int(queue_s / max(once, 1e-7))))
    spent = 0.0
    for number in range(most):
        for name in list(calls) if number % 2 == 0 else reversed(list(calls)):
            seconds = _queue(calls[name], counts[name])
            times[name].append(seconds / counts[name])
            spent += seconds
        if spent > BUDGET_S and number >= 3:
            break
    return times


def _queue(call: Callable[[], Any], count: int) -> float:
    start, result = time.perf_counter(), None
    for _ in range(count):
        result = call()
    jax.block_until_ready(result)
    return time.perf_counter() - start


class OneOp:
    """Starts a call of one implementation; what the op updates in place is donated and handed on to the next call."""

    def __init__(self, op: Op, params: Mapping[str, Any], operands: Mapping[str, jax.Array], implementation: str | None) -> None:
        def one_op(updated: dict[str, jax.Array], others: dict[str, jax.Array]):
            return op(**updated, **others, **params, implementation=implementation)

        self._op = op
        self._updated = {name: operands[name].copy() for name in op.aliases}
        self._others = {name: x for name, x in operands.items() if name not in op.aliases}
        self.lowered = jax.jit(one_op, donate_argnums=0).lower(self._updated, self._others)
        self._program = self.lowered.compile()

    def __call__(self) -> tuple[jax.Array, ...]:
        results = self._program(self._updated, self._others)
        named = dict(zip(self._op.results, results, strict=True))
        self._updated = {operand: named[result] for operand, result in self._op.aliases.items()}
        return results
