"""Choosing among the rows of a one-stage MoE table: what the caller named, else AITER's rule of fewest rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from jax_aiter.kernels.asm.registry import forced, need
from jax_aiter.kernels.asm.tables import Kernel, named
from jax_aiter.kernels.provider import Call


def split(rows: Iterable[Kernel], why_not: Callable[[Kernel], str | None]) -> tuple[tuple[Kernel, ...], dict[Kernel, str]]:
    """The rows that can run a call, and why each other one cannot."""
    rows = tuple(rows)
    refused = {row: why for row in rows if (why := why_not(row)) is not None}
    return tuple(row for row in rows if row not in refused), refused


def chosen(call: Call, fitting: tuple[Kernel, ...], refused: Mapping[Kernel, str]) -> tuple[Kernel | None, str]:
    """The row the caller named, if one was; Refusal if that one cannot run the call, or if none can."""
    asked = None if call.kernel is None else named(refused, call.kernel)
    need(asked is None, f"kernel = {call.kernel!r}: {refused[asked] if asked else ''}")
    need(bool(fitting), _nearest(refused))
    return forced(call, fitting), "the caller's kernel="


def _nearest(refused: Mapping[Kernel, str]) -> str:
    """What keeps the call from the kernel that comes nearest: rather than its tile, of which there are others, or a defect."""

    def far(of: tuple[Kernel, str]) -> tuple[bool, bool]:
        row, why = of
        return why.startswith(row.symbol), why.startswith("I = ")

    return min(refused.items(), key=far)[1] if refused else "AITER has no kernel for this call"


def fewest_rounds(rows: Iterable[Kernel], inter: int, blocks: int, units: int) -> tuple[Kernel, str]:
    """``get_heuristic_kernel``: fewest rounds over the compute units, then fewest idle in the last, then persistent."""

    def cost(row: Kernel) -> tuple[int, int, bool]:
        groups = inter // row.number("subGU_n") * blocks
        rounds = -(-groups // units)
        return rounds, rounds * units - groups, row["ps"] != 1

    row = min(rows, key=cost, default=None)
    need(row is not None, "no kernel of AITER's rule fits; kernel= can name one that it does not consider")
    assert row is not None
    return row, f"AITER's heuristic: fewest rounds over {units} compute units, then fewest idle, then persistent"
