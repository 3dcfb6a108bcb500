"""The ops AITER has hand-written kernels for: per op, a function that selects the kernel and knows how to plan its launch.

Each family has a folder beside this file. A selecting function sees a `Call`, raises `Refusal` with the rule that forbids it, and
returns a `Selected`; it reads tables but no code object, so it is quick enough to be asked at every trace.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable

from jax_aiter.core import folders
from jax_aiter.kernels.asm.recorded import Recorded
from jax_aiter.kernels.asm.tables import Kernel, kernels, named, refused_row
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.provider import Call, Program


class Refusal(Exception):
    """AITER's kernels cannot run a call; the text names the argument, its value and the rule."""


def need(condition: bool, rule: str) -> None:
    if not condition:
        raise Refusal(rule)


def listed(call: Call, table: str) -> tuple[Kernel, ...]:
    """The rows of a table for the call's architecture; Refusal if this release of AITER has none."""
    assert call.target.arch is not None
    rows = kernels(call.target.arch, table)
    need(bool(rows), f"this release of AITER has no {table.removesuffix('.csv')} kernels for {call.target.arch}")
    return rows


@dataclasses.dataclass(frozen=True)
class Selected:
    """The kernel that would run a call.

    kernel, grid: what does the op's work (helpers such as a reduction are found in the plan).
    rule: why this one: the tuned row, AITER's heuristic, or that the caller named it.
    build: makes the plan.
    passes_over: why auto should rather take another provider (AITER itself would run something else), None if it should not.
    recorded: AITER's HIP kernels around it, None where there are none for any call.
    left_open: why AITER leaves it open which library's kernel runs the call, None if a row or a rule says.
    """

    kernel: Kernel
    grid: tuple[int, int, int]
    rule: str
    build: Callable[[], LaunchPlan | Program]
    passes_over: str | None = None
    recorded: Recorded | None = None
    left_open: str | None = None


@dataclasses.dataclass(frozen=True)
class Adapter:
    op: str
    source: str  # the host code in AITER that this mirrors
    tables: tuple[str, ...]  # of ``hsa/<arch>``: the kernels this can select
    select: Callable[[Call], Selected]
    never: Callable[[Kernel], str | None]  # why `select` takes a kernel of the tables for no call at all, named or not
    unlisted: Callable[[str], Iterable[Kernel]]  # of an architecture: the kernels that no table lists


def every_kernel_is_listed(arch: str) -> Iterable[Kernel]:
    return ()


def op(
    name: str,
    *,
    source: str,
    tables: Iterable[str],
    never: Callable[[Kernel], str | None] = lambda kernel: None,
    unlisted: Callable[[str], Iterable[Kernel]] = every_kernel_is_listed,
) -> Callable:
    """Declares the decorated function as what selects kernels for op `name`.

    `never` must be what the function itself asks, so that what `coverage` says of a kernel is what happens.
    """

    def declare(select: Callable[[Call], Selected]) -> Callable[[Call], Selected]:
        select.__dict__.setdefault("adapters", []).append(Adapter(name, source, tuple(tables), select, never, unlisted))
        return select

    return declare


@functools.cache
def adapters() -> dict[str, Adapter]:
    """All adapters by op name."""
    return folders.declared("jax_aiter.kernels.asm")


def has_kernels(op: str) -> bool:
    """Whether there are hand-written kernels for an op; some adapters only say where they are instead."""
    adapter = adapters().get(op)
    return adapter is not None and bool(adapter.tables or adapter.unlisted is not every_kernel_is_listed)


def forced(call: Call, rows: Iterable[Kernel]) -> Kernel | None:
    """The row that the caller named with ``kernel=``, None if nothing was named; Refusal if there is no such row."""
    if call.kernel is None:
        return None
    rows = tuple(rows)
    row = named(rows, call.kernel)
    if row is None:
        for table in adapters()[call.op].tables:
            why = refused_row(str(call.target.arch), table, call.kernel)
            need(why is None, f"kernel = {call.kernel!r}: {why}")
    known = ", ".join(sorted(r.symbol for r in rows)[:8])
    need(row is not None, f"kernel = {call.kernel!r}; kernels of {call.op} on {call.target.arch} that fit are {known or 'none'}")
    return row
