"""A program that is compiled before anything is timed, and how such programs are timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax

Row = dict[str, Any]
ROUNDS, QUEUE_S = 5, 0.03  # what a call takes beside the device's time, some 50 µs, is little of such a queue
SLOW_S = 0.2  # a call that takes longer is timed twice, by itself


class Case(NamedTuple):
    """program: jitted. arguments: shapes with their shardings. kernels: of this package, so that --build lowers it."""

    program: Any
    arguments: Sequence[Any]
    kernels: bool = True

    def lower(self) -> Any:
        return self.program.lower(*self.arguments)


class Part(Protocol):
    """A part of the benchmark: its programs, and the rows that they give, each as soon as it is measured."""

    def cases(self) -> dict[str, Case]: ...

    def prepare(self) -> Any:
        """What `rows` takes, made while the cases compile: parameters, and small programs that JAX keeps."""
        ...

    def rows(self, made: Mapping[str, Any], prepared: Any) -> Iterator[Row]:
        """made: of every case the compiled program, or why there is none."""
        ...


def timed(calls: Mapping[str, Callable[[], Any]]) -> dict[str, Row]:
    """Of each call the median of its rounds and their quartiles, in seconds, the calls in turns; each has run before."""
    once = {name: _queue(call, 1) for name, call in calls.items()}
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS):
        for name in list(calls) if number % 2 == 0 else reversed(list(calls)):
            if once[name] < SLOW_S or number < 2:
                count = max(1, min(100, int(QUEUE_S / once[name])))
                found[name].append(_queue(calls[name], count) / count)
    return {name: summary(seconds) for name, seconds in found.items()}


def summary(seconds: Sequence[float]) -> Row:
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {"s": statistics.median(seconds), "quartiles": [low, high]}


def _queue(call: Callable[[], Any], count: int) -> float:
    start, result = time.perf_counter(), None
    for _ in range(count):
        result = call()
        if (
            jax.default_backend() == "cpu"
        ):  # its collectives wait for one another in one pool of threads, which several calls exhaust
            jax.block_until_ready(result)
    jax.block_until_ready(result)
    return time.perf_counter() - start
