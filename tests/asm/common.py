"""Running an op on one of AITER's hand-written kernels, and remembering which code objects ran and agreed.

The record (JAX_AITER_COVERAGE names a file) is what `python -m jax_aiter.kernels.asm.coverage` reads.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import pytest

import jax_aiter
from jax_aiter.kernels.asm import registry
from jax_aiter.kernels.asm.tables import Kernel, kernels, location
from jax_aiter.kernels.known import AITER_COMMIT, file_hash
from jax_aiter.kernels.store.survey import survey
from tests import outcomes

_record: dict[str, dict[str, str]] = {}


@functools.cache
def release() -> str:
    """The release that AITER's present files are nearest to."""
    return survey(location()).release or "unknown"


def selected(call: Callable[..., Any], *args: Any) -> Kernel:
    """The hand-written kernel that the one op in `call` would run; fails if another implementation would."""
    (found,) = [e for e in jax_aiter.explain(call, *args) if e.implementation == "asm"]
    assert found.details, found
    symbol = found.details[0].removeprefix("kernel ")
    path = found.details[1].removeprefix("in ").partition(",")[0]
    return Kernel(str(found.arch), symbol, path, "", {})


@contextmanager
def running(call: Callable[..., Any], *args: Any, helpers: Iterable[Kernel] = ()) -> Iterator[Any]:
    """The results of ``jax.jit(call)(*args)``; its kernel counts as executed, and as agreed if the block raises nothing.

    helpers: other hand-written kernels of the same call, which count alike. The compiled program is checked to hold the kernel
    that `explain` names, and these.
    """
    compiled = jax.jit(call).lower(*args).compile()
    text, entries = compiled.as_text() or "", []
    for kernel in (selected(call, *args), *helpers):
        assert kernel.symbol in text, f"{kernel} is not in the compiled program"
        entries.append(_record.setdefault(file_hash(kernel.code()), {"arch": kernel.arch, "outcome": "executed"}))
    results = jax.block_until_ready(compiled(*args))
    try:
        yield results
    except BaseException:
        for entry in entries:
            entry["outcome"] = "differed"
        raise
    for entry in entries:
        if entry["outcome"] == "executed":
            entry["outcome"] = "agreed"


def executed() -> frozenset[str]:
    """The hashes of the code objects that this session ran."""
    return frozenset(_record)


def rows(op: str, arch: str, table: str) -> tuple[Kernel, ...]:
    """The kernels of one of the op's tables, for a sweep over all of them."""
    assert table in registry.adapters()[op].tables
    return kernels(arch, table)


def usable(op: str, arch: str, table: str) -> tuple[Kernel, ...]:
    """Those of `rows` that some call can select."""
    return tuple(row for row in rows(op, arch, table) if registry.adapters()[op].never(row) is None)


def needs_kernels(arch: str, tables: Iterable[str]) -> None:
    """Skips the test if this release of AITER has no kernel in any of the tables; the commit that tests were made with has."""
    tables = tuple(tables)
    usable = [row for table in tables for row in kernels(arch, table) if any(a.never(row) is None for a in _takers(table))]
    if not usable:
        assert release() != AITER_COMMIT
        pytest.skip(f"{release()}: this release of AITER has no {', '.join(tables)} kernels that are used on {arch}")


def _takers(table: str) -> list[registry.Adapter]:
    return [adapter for adapter in registry.adapters().values() if table in adapter.tables]


def thinned(values: Iterable[Any], step: int) -> list[Any]:
    """Parameters of a test of which every `step`-th runs by default, the others with the mark `exhaustive`."""
    return [v if i % step == 0 else pytest.param(v, marks=pytest.mark.exhaustive) for i, v in enumerate(values)]


def write_record() -> None:
    """What this session ran, into the file that JAX_AITER_COVERAGE names."""
    outcomes.write("JAX_AITER_COVERAGE", _record)
