"""The provider: AITER's hand-written code objects for gfx942 and gfx950."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

from jax_aiter.bind import switches
from jax_aiter.core.errors import KernelBuildError, NotSupportedError
from jax_aiter.kernels.args import PlanError
from jax_aiter.kernels.asm.device import ARCHS, FP8
from jax_aiter.kernels.asm.registry import Refusal, Selected, adapters
from jax_aiter.kernels.asm.tables import NotFoundError, TableError, location
from jax_aiter.kernels.cache import CacheError
from jax_aiter.kernels.empty import nothing_to_launch
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.provider import Call, Program, Unusable
from jax_aiter.kernels.spec import CallSpec


class AsmProvider:
    """Runs an op with the hand-written kernels that AITER ships for it.

    A plan's operands are what jax.numpy makes of the call's, so kernels are chosen, plans built and programs run under pinned
    switches; a choice is remembered, and must not be what one setting made of it.
    """

    name = "asm"

    def refuse(self, call: Call) -> str | None:
        found = _select(call)
        return found if isinstance(found, str) else None

    def plan(self, call: Call) -> LaunchPlan | Program:
        selected = self._selected(call)
        try:
            with _explained(), switches.pinned():
                plan = selected.build()
        except PlanError as error:
            raise KernelBuildError(f"{call.op}: {error}") from error
        return dataclasses.replace(plan, run=switches.pinned()(plan.run)) if isinstance(plan, Program) else plan

    def passes_over(self, call: Call) -> str | None:
        return self._selected(call).passes_over

    def left_open(self, call: Call) -> str | None:
        return self._selected(call).left_open

    def details(self, call: Call) -> tuple[str, ...]:
        found = self._selected(call)
        lines = (f"kernel {found.kernel.symbol}", f"in {found.kernel.path}, grid {found.grid}", f"chosen by {found.rule}")
        lines += () if found.recorded is None else (found.recorded.around(),)
        where = location()
        lines += () if where.verified else (f"AITER's files are {where.state}",)
        if found.passes_over is None:
            return lines
        why = "AITER itself" if found.left_open is not None else "taken for want of another library's kernel"
        return (*lines, f"{why}: {found.passes_over}")

    def recorded(self, call: Call) -> tuple[CallSpec, ...]:
        """The HIP kernels of AITER's that are recorded for the plan of a call; none if it is refused."""
        found = _select(call)
        return () if isinstance(found, str) or found.recorded is None else found.recorded.specs()

    @staticmethod
    def _selected(call: Call) -> Selected:
        found = _select(call)
        if isinstance(found, str):
            raise NotSupportedError(f"{call.op}: {found}")
        return found


def _select(call: Call) -> Selected | str:
    """The kernel for a call, or why there is none."""
    if call.target.platform != "rocm" or call.target.arch not in ARCHS:
        return f"AITER's code objects are for {' and '.join(ARCHS)}, the target is {call.target.platform} {call.target.arch}"
    adapter = adapters().get(call.op)
    if adapter is None:
        return f"AITER has no hand-written kernel for {call.op}"
    nothing = nothing_to_launch(call.operands, call.results)
    if nothing is not None:
        return nothing
    for name, x in call.operands.items():
        if x.dtype in FP8.values() and x.dtype != FP8[call.target.arch]:
            return f"{name} has dtype {x.dtype.name}; {call.target.arch} computes in {FP8[call.target.arch].name} (see convert_fp8)"
    key = (call.op, call.target, tuple(call.operands.items()), tuple(sorted(call.params.items())), call.results, call.kernel)
    try:
        with _explained():
            return _remembered(_Keyed(key, call), location())
    except NotFoundError as error:
        return str(error)
    except KernelBuildError as error:
        return Unusable(error)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Tables that are not the pinned commit's may hold anything: what they make our selection stumble over is their fault."""
    try:
        yield
    except CacheError as error:
        raise KernelBuildError(str(error)) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        where = location()
        if where.verified or isinstance(error, PlanError):
            raise
        raise KernelBuildError(
            f"AITER's files in {where.path} ({where.identity}) are not like those that kernels are selected from: "
            f"{type(error).__name__}: {error}"
        ) from error


class _Keyed:
    """A call under a hashable key (its mappings are not hashable)."""

    def __init__(self, key: tuple, call: Call):
        self.key, self.call = key, call

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self.key == other.key


@functools.lru_cache(maxsize=1024)
def _remembered(keyed: _Keyed, where: object) -> Selected | str:
    """`explain`, the trace and the plan each ask; AITER's location is part of the key because the tables are read from it."""
    try:
        with switches.pinned():
            return adapters()[keyed.call.op].select(keyed.call)
    except Refusal as refusal:
        return str(refusal)
    except TableError as error:
        return Unusable(error)
