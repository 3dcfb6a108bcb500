"""Device time of one call of an op, per implementation, on the present device."""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import jax

from jax_aiter.core.op import Op

# The time of one call is the slope between programs with one and with this many calls: launch latency and the host's share cancel.
CALLS = 7
ROUNDS = 15
BUDGET_S = 1.5  # a slow call is repeated fewer times; its median is steady anyway


def _chained(op: Op, params: Mapping[str, Any], implementation: str, count: int) -> Any:
    """`count` calls in one program, none of which XLA can share, drop or run at once: each waits for the one before.

    What an op updates in place is handed on, so that a cache is not copied for every call.
    """

    def function(operands: dict[str, jax.Array]):
        results = op(**operands, **params, implementation=implementation)
        for _ in range(count - 1):
            operands, results = jax.lax.optimization_barrier((operands, results))
            named = dict(zip(op.results, results, strict=True))
            operands = {**operands, **{o: named[r] for o, r in op.aliases.items()}}
            results = op(**operands, **params, implementation=implementation)
        return results

    return jax.jit(function)


def device_seconds(op: Op, params: Mapping[str, Any], operands: dict[str, jax.Array], names: list[str]) -> dict[str, float]:
    """Median seconds per call of each implementation in `names`, measured in turns so that drift hits all alike."""
    programs = {
        (name, count): _chained(op, params, name, count).lower(operands).compile() for name in names for count in (1, CALLS)
    }
    times: dict[tuple[str, int], list[float]] = {key: [] for key in programs}
    for run in programs.values():
        jax.block_until_ready(run(operands))
    order, spent = list(programs), 0.0
    for number in range(ROUNDS):
        for key in order if number % 2 == 0 else reversed(order):
            start = time.perf_counter()
            jax.block_until_ready(programs[key](operands))
            times[key].append(time.perf_counter() - start)
            spent += times[key][-1]
        if spent > BUDGET_S and number >= 4:
            break
    medians = {key: statistics.median(values) for key, values in times.items()}
    # Below a microsecond the slope is noise; it must stay positive, and a call is no faster than an empty kernel.
    return {name: max((medians[name, CALLS] - medians[name, 1]) / (CALLS - 1), 1e-6) for name in names}
