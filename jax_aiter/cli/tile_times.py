"""Checks and times the launch plans of one call, one per tile, on the present device."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.cli import measure
from jax_aiter.cli.bench.chain import handed_on
from jax_aiter.cli.same import differ
from jax_aiter.cli.say import first_line
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.args import PlanError
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.spec import CallSpec, Tile
from jax_aiter.kernels.triton.tiles.search import Key, key

#: A program repeats the plan until it runs for so long, or so often: what the host needs to start a program, some 10 to 50 µs, is
#: then shared by all, and a call of a few µs is still timed by what the device does.
PROGRAM_S, MOST_REPEATS = 1.5e-3, 32
#: A first look at many tiles, then few of them again for longer.
LOOK = {"most": 5, "queue_s": 4e-3}

#: Launches by themselves: in a command buffer XLA records them again whenever a result lies elsewhere than the run before, and the
#: host's time for that hid a kernel of 50 µs.
ALONE = {"xla_gpu_graph_min_graph_size": 1 << 30}

Reference = Callable[..., Sequence[jax.Array]]


def repeated(plan: LaunchPlan, results: Sequence[Any], count: int) -> Callable[..., list[jax.Array]]:
    """A program that runs a plan `count` times, one after the other on the device; what it updates in place is handed on.

    Each call but the first takes an operand, the smallest, that XLA believes the call before has written: it can neither drop calls
    nor take them for one. (Calls said to have effects would be kept too, but JAX starts a program with effects on its slow way, in
    0.2 to 0.5 ms on a busy host: by that, and not by their kernels, tiles of up to 0.3 ms were compared.)
    """
    updated = dict(plan.aliases)
    others = [b for b in plan.operands if b.index not in updated and b.nbytes]
    through = None if updated or not others else min(others, key=lambda b: b.nbytes).index

    def run(*operands: jax.Array) -> list[jax.Array]:
        arrays, out = list(operands), []
        for number in range(count):
            if number and through is not None:
                arrays[through] = handed_on({"": arrays[through]}, out, plan.arch)[""]
            out = call_plan(plan, *arrays, result_shape_dtypes=results)
            for operand, result in updated.items():
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
        self.dropped: dict[Key, str] = {}

    def look(self, tiles: Sequence[Tile], operands: Mapping[str, jax.Array]) -> dict[Key, float]:
        """Median seconds of the tiles that are right. AITER's own configuration, the empty tile, is what the others are held to."""
        return {name: statistics.median(values) for name, values in self.settle(tiles, operands, **LOOK).items()}

    def settle(self, tiles: Sequence[Tile], operands: Mapping[str, jax.Array], **how: Any) -> dict[Key, list[float]]:
        """Seconds in each of several longer rounds, or of those that `how` asks `measure.rounds` for, the tiles in turns."""
        programs = self._programs(tiles, operands)
        times = measure.rounds({name: program for name, (program, _) in programs.items()}, **how)
        return {name: [value / programs[name][1] for value in values] for name, values in times.items()}

    def release(self) -> None:
        """Gives back the memory of the results that the others were compared with."""
        self._wanted = None

    def _programs(self, tiles: Sequence[Tile], operands: Mapping[str, jax.Array]) -> dict[Key, tuple[Callable[[], Any], int]]:
        """For each tile a program, and how often that runs the plan."""
        arrays = [operands[name] for name in self._spec.operands]
        found: dict[Key, tuple[Callable[[], Any], int]] = {}
        for tile in sorted(tiles, key=len):  # the empty one first: it is what the others' results are compared with
            name = key(tile)
            if name in self.dropped:
                continue
            try:
                plan = self._plan_of(tile)
                once = repeated(plan, self._results, 1)
                self._check(once, arrays, operands, own=not tile)
                count = _repeats(once, arrays)
                program = once if count == 1 else repeated(plan, self._results, count)
                jax.block_until_ready(program(*arrays))
            except (KernelBuildError, PlanError, jax.errors.JaxRuntimeError, _WrongError) as error:
                self.dropped[name] = first_line(error)
                continue
            found[name] = (lambda program=program: program(*arrays)), count
        return found

    def _check(self, program: Callable, arrays: Sequence[jax.Array], operands: Mapping[str, jax.Array], *, own: bool) -> None:
        got = jax.block_until_ready(program(*arrays))
        wanted = self._wanted
        if wanted is None:
            wanted = self._wanted = got if own else jax.block_until_ready(self._reference(**operands))
        if (why := differ(got, wanted, arrays)) is not None:
            raise _WrongError(f"wrong numbers: {why}")


def _repeats(once: Callable, arrays: Sequence[jax.Array]) -> int:
    """How often the tile's program runs its plan. Each tile has its own number: by that of the slowest, often AITER's own, a fast
    one's program would be shorter than the host needs to start it."""
    seconds = statistics.median(measure.rounds({"": lambda: once(*arrays)}, 3, 2e-3)[""])
    return min(MOST_REPEATS, max(1, int(PROGRAM_S / max(seconds, 1e-7))))


class _WrongError(Exception):
    """A tile's results are not those of the call."""
