"""Planted times, in the place of `jax_aiter.cli.sides.Sides`."""

import dataclasses
from collections.abc import Callable

import jax


@dataclasses.dataclass(frozen=True)
class Planted:
    """time: of the operands, seconds by implementation."""

    time: Callable[[dict[str, jax.Array]], dict[str, float]]

    def seconds(self, draw: Callable[[], dict[str, jax.Array]]) -> dict[str, float]:
        return self.time(draw())
