"""Which implementation runs each op on a target, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jax_aiter.bind import select
from jax_aiter.bind.op import Op
from jax_aiter.ops.catalogue import all_ops


class Taken(NamedTuple):
    """Of one case of an op's record: the implementation that would run, None if the case is not of this target's types; the first
    reason against each other one, or against the case by its name.
    """

    op: Op
    case: str
    implementation: str | None
    reasons: dict[str, str]


def by_case(platform: str, arch: str | None, lifted: str | None = None) -> Iterator[Taken]:
    """Every case of every op. lifted: a reason against an implementation that counts as none."""
    for op in all_ops().values():
        for case in op.cases():
            operands = {n: a.struct for n, a in case.operands.items()}
            try:
                results = op.infer(operands, case.params)
            except TypeError as error:  # a case of the other fp8 family than this target's
                yield Taken(op, case.name, None, {case.name: str(error)})
                continue
            call = select.make_call(op, platform, arch, operands, case.params, results)
            implementation, refused = select.preferred(call, None, lifted)
            yield Taken(op, case.name, implementation, dict(refused))


def summed(cases: Iterable[Taken]) -> list[dict[str, Any]]:
    """Per op: how many cases each implementation takes, and the first reason against each other one."""
    rows: dict[str, dict[str, Any]] = {}
    for op, _, implementation, reasons in cases:
        row = rows.setdefault(op.name, {"op": op.name, "family": op.family, "implementations": {}, "reasons": {}})
        if implementation is not None:
            row["implementations"][implementation] = row["implementations"].get(implementation, 0) + 1
        for other, reason in reasons.items():
            row["reasons"].setdefault(other, reason)
    return [*rows.values()]


def who_runs(platform: str, arch: str | None) -> list[dict[str, Any]]:
    """Per op, over its cases: the implementation that would run, and the first reason against each other one."""
    return summed(by_case(platform, arch))
