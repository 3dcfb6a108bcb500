"""Checks and times the launch plans of one call, one per tile, on the present device."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.cli import measure
from jax_aiter.cli.same import differ
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.args import PlanError
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.spec import CallSpec, Tile
from jax_aiter.kernels.triton.tiles.search import Key, key

#: A program repeats the plan until it runs for so long, or so often: what the host needs to start a program, some 10 to 50 µs, is
#: then shared by all, and a call of a few µs is still timed by what the device does.
PROGRAM_S, MOST_REPEATS = 1.5e-3, 16
#: A first look at many tiles, then few of them again for longer.
LOOK = {"most": 5, "queue_s": 4e-3}

#: Launches by themselves: in a command buffer XLA records them again whenever a result lies elsewhere than the run before, and the
#: host's time for that hid a kernel of 50 µs.
ALONE = {"xla_gpu_graph_min_graph_size": 1 << 30}

Reference = Callable[..., Sequence[jax.Array]]


def repeated(plan: LaunchPlan, results: Sequence[Any], count: int) -> Callable[..., list[jax.Array]]:
    """A program that runs a plan `count` times, one after the other on the device; what it updates in place is handed on."""

    def run(*operands: jax.Array) -> list[jax.Array]:
        arrays, out = list(operands), []
        for _ in range(count):
            out = call_plan(plan, *arrays, result_shape_dtypes=results, has_side_effect=True)
            for operand, result in plan.aliases:
                arrays[operand] = out[result]
        return out

    return jax.jit(run, compiler_options=ALONE)


class Bench:
    """One call with its data. dropped: tiles that did not run, or were not right, and why."""

    def __init__(
        self, spec: CallSpec, plan_of: Callable[[Tile], LaunchPlan], reference: Callable[..., Sequence[jax.Array]]
    ) -> None:
        """plan_of: the plan with a tile, KernelBuildError if there is none. reference: the right results, on the operands by name,
        for want of AITER's own configuration."""
        self._spec, self._plan_of, self._reference = spec, plan_of, reference
        self._results = [jax.ShapeDtypeStruct(r.shape, jnp.dtype(r.dtype)) for r in spec.results]
        self._wanted: Sequence[jax.Array] | None = None
        self._count = 0
        self.dropped: dict[Key, str] = {}

    def look(self, tiles: Sequence[Tile], operands: Mapping[str, jax.Array]) -> dict[Key, float]:
        """Median seconds of the tiles that are right. AITER's own configuration, the empty tile, is what the others are held to."""
        times = measure.rounds(self._programs(tiles, operands), **LOOK)
        return {name: statistics.median(values) / self._count for name, values in times.items()}

    def settle(self, tiles: Sequence[Tile], operands: Mapping[str, jax.Array]) -> dict[Key, list[float]]:
        """Seconds in each of several longer rounds, the tiles in turns."""
        times = measure.rounds(self._programs(tiles, operands))
        return {name: [value / self._count for value in values] for name, values in times.items()}

    def release(self) -> None:
        """Gives back the memory of the results that the others were compared with."""
        self._wanted = None

    def _programs(self, tiles: Sequence[Tile], operands: Mapping[str, jax.Array]) -> dict[Key, Callable[[], Any]]:
        arrays = [operands[name] for name in self._spec.operands]
        found: dict[Key, Callable[[], Any]] = {}
        for tile in sorted(tiles, key=len):  # the empty one first: it is what the others' results are compared with
            name = key(tile)
            if name in self.dropped:
                continue
            try:
                plan = self._plan_of(tile)
                self._check(repeated(plan, self._results, 1), arrays, operands, own=not tile)
                program = repeated(plan, self._results, self._repeats(plan, arrays))
                jax.block_until_ready(program(*arrays))
            except (KernelBuildError, PlanError, jax.errors.JaxRuntimeError, _WrongError) as error:
                self.dropped[name] = (str(error).splitlines() or [type(error).__name__])[0]
                continue
            found[name] = lambda program=program: program(*arrays)
        return found

    def _check(self, program: Callable, arrays: Sequence[jax.Array], operands: Mapping[str, jax.Array], *, own: bool) -> None:
        got = jax.block_until_ready(program(*arrays))
        wanted = self._wanted
        if wanted is None:
            wanted = self._wanted = got if own else jax.block_until_ready(self._reference(**operands))
        if (why := differ(got, wanted, arrays)) is not None:
            raise _WrongError(f"wrong numbers: {why}")

    def _repeats(self, plan: LaunchPlan, arrays: Sequence[jax.Array]) -> int:
        """How often each program runs its plan: the same for all tiles, by the time of the first."""
        if not self._count:
            once = repeated(plan, self._results, 1)
            seconds = statistics.median(measure.rounds({"": lambda: once(*arrays)}, 3, 2e-3)[""])
            self._count = min(MOST_REPEATS, max(1, int(PROGRAM_S / max(seconds, 1e-7))))
        return self._count


class _WrongError(Exception):
    """A tile's results are not those of the call."""
