"""The ops AITER has HIP kernels for: per op, the rule that refuses a call and the function that records one.

A folder per family beside this file. Rules run in the user's process and see only a `CallSpec`; recording functions run in the
worker and call AITER's own host functions, by name, with the call's arrays.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax_aiter.core import folders
from jax_aiter.kernels.empty import nothing_to_launch
from jax_aiter.kernels.spec import CallSpec

#: Each layer adds to what the last one's sum was stored as. Cut off at 61 norms of a model of 30 layers, its logits were off by a
#: seventh of the largest, and its answer was another one (`examples.llm.against_cpu` on a virtual gfx942).
CUT_OFF = "AITER's HIP kernel cuts the sum off to bfloat16 on gfx942; what that loses adds up from layer to layer of a model"
#: part of every plan's key: raise it when a recording function changes what it records.
VERSION = 2


@dataclasses.dataclass(frozen=True)
class Adapter:
    """How one op is run with AITER's HIP kernels.

    function: AITER's own, for people. sources: what a call needs compiled, by the names of `build.catalogue`. needs: functions of
    these that not every release has, or not with so many arguments, as `declared.lacking` takes them. Both are asked of the call
    that is recorded. entry: what AITER's own entry point does with a call. arrange: the operands that the plan takes, from the
    op's, where they are not the same (`Arranged`). part: it is no op, but what another provider puts into its plans.
    """

    op: str
    function: str
    sources: Callable[[CallSpec], tuple[str, ...]]
    refuse: Callable[[CallSpec], str | None]
    run: Callable[[Any], None]
    needs: Callable[[CallSpec], tuple[tuple[str, str, int], ...]]
    entry: Callable[[CallSpec], Entry]
    arrange: Arranged | None = None
    part: bool = False


@dataclasses.dataclass(frozen=True)
class Entry:
    """What AITER's own entry point does with a call, which auto does too.

    rule: by what it takes this kernel: a row of a tuned table, or a rule of its code. elsewhere: what it launches instead, None if
    it takes this kernel. asked: auto does not take the kernel even for want of that. left_open: why its tables leave open which
    library's kernel runs the call, None if a row or a rule says.
    """

    rule: str
    elsewhere: str | None = None
    asked: bool = False
    left_open: str | None = None


def _undeclared(spec: CallSpec) -> Entry:
    return Entry("the caller", 'nothing says that AITER takes this kernel by itself: implementation="hip" does', asked=True)


def _same(spec: CallSpec) -> CallSpec:
    return spec


def _in_order(spec: CallSpec, operands: Mapping[str, Any]) -> Sequence[Any]:
    return [operands[name] for name in spec.operands]


def _as_they_are(spec: CallSpec, operands: Mapping[str, Any], results: Sequence[Any]) -> Sequence[Any]:
    return results


@dataclasses.dataclass(frozen=True)
class Arranged:
    """jax.numpy around AITER's function, where it takes or leaves something else than the op does.

    spec: the description of the call that is recorded. arrays: the operands of that, in order, from the op's. finish: the op's
    results from its operands and the plan's results.
    """

    spec: Callable[[CallSpec], CallSpec] = _same
    arrays: Callable[[CallSpec, Mapping[str, Any]], Sequence[Any]] = _in_order
    finish: Callable[[CallSpec, Mapping[str, Any], Sequence[Any]], Sequence[Any]] = _as_they_are


def op(
    name: str,
    *,
    function: str,
    sources: tuple[str, ...] | Callable[[CallSpec], tuple[str, ...]],
    refuse: Callable[[CallSpec], str | None],
    needs: Callable[[CallSpec], tuple[tuple[str, str, int], ...]] = lambda spec: (),
    entry: str | Callable[[CallSpec], Entry] = _undeclared,
    arrange: Arranged | None = None,
    cut_off: str | None = None,
) -> Callable:
    """Declares the decorated recording function as the adapter of op `name`; `refuse` sees no empty array.

    entry: a rule, where AITER's entry point takes this kernel for all calls. cut_off: the operand that a layer adds to and all
    later ones read, if the kernel stores that sum of bfloat16 by truncation on gfx942.
    """

    compiled = sources if callable(sources) else lambda spec: sources
    enters = entry if callable(entry) else lambda spec: Entry(entry)

    def taken(spec: CallSpec) -> Entry:
        """Auto takes a kernel that rounds the sum, where there is one. gfx950 has an instruction that does."""
        added = None if cut_off is None or spec.arch != "gfx942" else spec.operands.get(cut_off)
        found = enters(spec)
        return dataclasses.replace(found, elsewhere=CUT_OFF) if added is not None and added.dtype == "bfloat16" else found

    def rules(spec: CallSpec) -> str | None:
        return nothing_to_launch(spec.operands, spec.results) or refuse(spec)

    def declare(run: Callable[[Any], None]) -> Callable[[Any], None]:
        run.__dict__.setdefault("adapters", []).append(Adapter(name, function, compiled, rules, run, needs, taken, arrange))
        return run

    return declare


def part(name: str, *, function: str, sources: tuple[str, ...]) -> Callable:
    """Declares the decorated recording function as what records part `name`, which no rule refuses: who describes it asked them."""

    def declare(run: Callable[[Any], None]) -> Callable[[Any], None]:
        made = Adapter(name, function, lambda spec: sources, lambda spec: None, run, lambda spec: (), _undeclared, part=True)
        run.__dict__.setdefault("adapters", []).append(made)
        return run

    return declare


@functools.cache
def every() -> dict[str, Adapter]:
    """All adapters by the name of the op, or the part."""
    return folders.declared("jax_aiter.kernels.hip")


@functools.cache
def adapters() -> dict[str, Adapter]:
    """Those of ops."""
    return {name: found for name, found in every().items() if not found.part}


def adapter(name: str) -> Adapter:
    return every()[name]
