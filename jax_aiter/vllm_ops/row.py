"""What the table says of one of vLLM's operations: which op of ours it is, and where each of its arguments goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

Fit = Literal["whole", "part", "composition", "none"]
FITS: dict[Fit, str] = {
    "whole": "one op of ours does all of it",
    "part": "an op of ours does it, but for what the row names",
    "composition": "no op of ours is it; a caller composes it of the functions that the row names",
    "none": "nothing here does it yet",
}
#: No default of theirs that ours has not too.
OWN: Any = object()
Value = Callable[[Any, Mapping[str, Any]], Any]


@dataclasses.dataclass(frozen=True)
class Argument:
    """Where one argument of vLLM's goes.

    ours: the arguments of our op that take it; none where it has no counterpart.
    value: ``(value, all of theirs) -> ours``, a tuple for several of ours; None hands it on as it is. Its docstring says how.
    result: it is an uninitialised or updated buffer of theirs, which ours returns.
    neutral: of an argument without counterpart, the values that ask for nothing; any other is refused. None takes every value.
    default: what theirs takes where it is left out, if ours has another default or none.
    note: why, or what it becomes, where `value` does not say so.
    """

    ours: tuple[str, ...] = ()
    value: Value | None = None
    result: bool = False
    neutral: tuple[Any, ...] | None = None
    default: Any = OWN
    note: str = ""

    def asks_nothing(self, value: Any) -> bool:
        """Of an argument without counterpart: whether what ours does is what a call with this value wants."""
        if self.neutral is None or hasattr(value, "shape"):
            return self.neutral is None
        return any(value is n or (n is not None and value == n) for n in self.neutral)

    @property
    def text(self) -> str:
        """What becomes of it, as a phrase."""
        says = (self.value.__doc__ or "").strip().rstrip(".") if self.value else ""
        how = "; ".join(filter(None, (says, self.note)))
        if self.ours:
            names = ", ".join(f"`{name}`" for name in self.ours)
            left_out = "" if self.default is OWN else f"; {self.default!r} if left out"
            return names + f": {how}" * bool(how) + "; and returned" * self.result + left_out
        if self.result:
            return "returned" + f": {how}" * bool(how)
        if self.neutral is None:
            return f"not needed: {how}"
        return f"{' or '.join(map(repr, self.neutral))} only" + f": {how}" * bool(how)


Arguments = Mapping[str, Argument]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One operation of vLLM's ROCm code.

    name: what vLLM registers or calls; aliases: other names of the same, such as the wrapper method of ``rocm_aiter_ops``.
    where: the file of vLLM that calls it, ``_aiter_ops.py`` if not said.
    aiter: the function of AITER behind it.
    ops: our public functions, the one that arguments translate to first.
    arguments: of theirs by name, in their order; empty where there is no op.
    given: arguments of ours that are the same for every call.
    results: what ours returns, in its order, by the names that theirs have.
    lacks: what of theirs ours does not do, or why there is none.
    instead: functions by their dotted names that a caller composes for what lacks.
    """

    name: str
    aiter: str
    aliases: tuple[str, ...] = ()
    where: str = "_aiter_ops.py"
    ops: tuple[str, ...] = ()
    arguments: Arguments = dataclasses.field(default_factory=dict)
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    results: tuple[str, ...] = ()
    lacks: str = ""
    instead: tuple[str, ...] = ()

    @property
    def fit(self) -> Fit:
        if self.ops:
            return "part" if self.lacks else "whole"
        return "composition" if self.instead else "none"


def same(*names: str) -> dict[str, Argument]:
    """Arguments that are called the same and mean the same."""
    return {name: Argument((name,)) for name in names}


def renamed(**names: str) -> dict[str, Argument]:
    """Theirs by name: what ours is called."""
    return {theirs: Argument((ours,)) for theirs, ours in names.items()}


def returned(*names: str, note: str = "") -> dict[str, Argument]:
    """Buffers that theirs writes into and ours returns."""
    return {name: Argument(result=True, note=note) for name in names}


def unneeded(*names: str, note: str) -> dict[str, Argument]:
    """Arguments that say what ours knows without."""
    return {name: Argument(note=note) for name in names}


def only(neutral: Any, *names: str, note: str = "") -> dict[str, Argument]:
    """Arguments that ask for what ours does not do, unless they have the value `neutral` (or, with a tuple, one of several)."""
    return {name: Argument(neutral=neutral if isinstance(neutral, tuple) else (neutral,), note=note) for name in names}


def to(ours: str | tuple[str, ...], value: Value | None = None, *, note: str = "", default: Any = OWN) -> Argument:
    """One argument that becomes one or several of ours by `value`."""
    return Argument((ours,) if isinstance(ours, str) else ours, value, note=note, default=default)
