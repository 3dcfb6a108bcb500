"""The implementations of one call, each as a chain of calls in one program: which is faster by the device's time, not the host's.

A jitted call costs the host some 10 to 60 µs; of two kernels that take less, a queue of calls says nothing.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jax_aiter.bind.op import Op
from jax_aiter.cli import measure
from jax_aiter.cli.bench import chain
from jax_aiter.kernels.call import nbytes

#: What a card moves in a second, at most: by this a chain is at least as long as it is meant to be.
BYTES_PER_S = 4e12
#: Of the shortest calls so many are one program: a call in a chain takes some 8 µs at least, so this is ten times what a start is.
MOST = 64


class Sides:
    """Compiled programs of the implementations `names` of one call."""

    def __init__(
        self, op: Op, params: Mapping[str, Any], operands: Mapping[str, jax.ShapeDtypeStruct], names: Sequence[str], arch: str
    ) -> None:
        """operands: their shapes; nothing is drawn. Raises what a provider or XLA raises where it cannot compile one of them."""
        updates = {operand: list(op.results).index(result) for operand, result in op.aliases.items()}
        self._count = _calls(operands)
        self._programs = {
            name: chain.program(functools.partial(_call, op, params, name), "", self._count, arch, updates)
            .lower(dict(operands))
            .compile()
            for name in names
        }

    def seconds(self, draw: Callable[[], dict[str, jax.Array]]) -> dict[str, float]:
        """Median seconds of one call by each implementation, in turns on the same operands, which an op may update."""
        held = chain.Held(draw)
        chains = {name: chain.Chain(compiled, held) for name, compiled in self._programs.items()}
        return {name: statistics.median(values) / self._count for name, values in measure.rounds(chains).items()}


def _call(op: Op, params: Mapping[str, Any], name: str, operands: dict[str, jax.Array]) -> Any:
    return op(**operands, **params, implementation=name)


def _calls(operands: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    return min(MOST, chain.calls(sum(map(nbytes, operands.values())) / BYTES_PER_S))
