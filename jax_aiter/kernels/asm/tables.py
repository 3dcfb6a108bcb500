"""AITER's tables of which kernel lies in which code object (``hsa/<arch>/**.csv``); `tuned` has those of tuned choices.

Each file is read once per process, when something first asks for it, and compared with what it should be as it is read
(`jax_aiter.kernels.store.files`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.asm import dialects, listed
from jax_aiter.kernels.asm.dialects import Value
from jax_aiter.kernels.known import file_hash, is_before, newest_release
from jax_aiter.kernels.store import Location, aiter_location, files
from jax_aiter.kernels.tables.cells import TableError, cells


class NotFoundError(KernelBuildError):
    """There are no code objects of AITER on this machine, which is no fault."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One row of a kernel table.

    symbol: the kernel's name in its code object. path: the code object, from AITER's top folder. table: the file that lists it,
    from ``hsa/<arch>``. fields: the remaining columns, numbers as int.
    """

    arch: str
    symbol: str
    path: str
    table: str
    fields: Mapping[str, Value] = dataclasses.field(hash=False, compare=False)

    def __getitem__(self, column: str) -> Value:
        try:
            return self.fields[column]
        except KeyError:
            raise KernelBuildError(f"AITER's table {self.table} has no column {column}, which {self.symbol} needs") from None

    def number(self, column: str) -> int:
        value = self[column]
        if not isinstance(value, int):
            raise KernelBuildError(f"AITER's table {self.table}: column {column} of {self.symbol} is {value!r}, not a number")
        return value

    def code(self) -> bytes:
        """The code object. KernelBuildError if it is gone, or is not what it should be."""
        return _code(self.path, location())

    def since(self, release: str) -> bool:
        """Whether the code object is of that release or of a later one: of the releases that hold it, the newest counts.

        What AITER's host code passes to a kernel changed between releases; an object that both sides of a change have takes what
        the later one passes. One that no release has counts as newer than all.
        """
        held = newest_release(file_hash(self.code()))
        return held is None or not is_before(held, release)

    def __str__(self) -> str:
        return f"{self.symbol} ({self.path})"


def location() -> Location:
    """Where AITER's files are. NotFoundError with the remedy if they are not there, CacheError if that cannot be told."""
    found = aiter_location()
    if found is None or not found.holds("hsa"):
        raise NotFoundError(
            'AITER\'s code objects were not found; install them with `pip install "jax_aiter[aiter]"`, or add a checkout with '
            "`jax-aiter kernels add PATH`"
        )
    return found


@functools.lru_cache(maxsize=256)
def _code(path: str, where: Location) -> bytes:
    return files.read(where, path)


def kernels(arch: str, table: str) -> tuple[Kernel, ...]:
    """The rows of ``hsa/<arch>/<table>`` in the file's order; () if AITER has no such table for the arch.

    Where a release's host code lists the kernels itself, they are those.
    TableError if there are rows and none is understood.
    """
    found, refused = _kernels(arch, table, location())
    if refused and not found:
        raise TableError(str(next(iter(refused.values()))))
    return found


def refused(arch: str, table: str) -> Mapping[str, TableError]:
    """Why rows of a table are not understood, by the path of the code object."""
    return {row.path: why for row, why in _kernels(arch, table, location())[1].items()}


def refused_row(arch: str, table: str, kernel: str) -> TableError | None:
    """Why the row called `kernel` is not understood; None if it is, or if there is none."""
    rows = _kernels(arch, table, location())[1]
    row = named(rows, kernel)
    return None if row is None else rows[row]


@functools.cache
def _kernels(arch: str, table: str, where: Location) -> tuple[tuple[Kernel, ...], Mapping[Kernel, TableError]]:
    full = f"hsa/{arch}/{table}"
    folder = full.rpartition("/")[0]
    if files.has(where, full):
        rows = dialects.read(table, cells(where, full))
    else:
        objects = (name for name in files.names(where) if name.startswith(f"{folder}/") and name.endswith(".co"))
        rows = listed.read(arch, table, (name.rpartition("/")[2] for name in objects))
    found, refused = [], {}
    for symbol, name, fields in rows:
        if isinstance(fields, dialects.Unreadable):
            why = TableError(f"AITER's table hsa/{arch}/{table}, kernel {symbol or '?'}: {fields}; the row is not used")
            refused[Kernel(arch, symbol, f"{folder}/{name}", table, {})] = why
        else:
            found.append(Kernel(arch, symbol, f"{folder}/{name}", table, fields))
    return tuple(found), refused


def named(rows: Iterable[Kernel], kernel: str) -> Kernel | None:
    """The row whose symbol, or code object's file name without ``.co``, is `kernel`."""
    return next((r for r in rows if kernel in (r.symbol, Path(r.path).stem)), None)


def loose(arch: str, path: str, symbol: str) -> Kernel | None:
    """A code object that no table lists, ``hsa/<arch>/<path>``; None if AITER does not ship it."""
    full = f"hsa/{arch}/{path}"
    return Kernel(arch, symbol, full, "", {}) if files.has(location(), full) else None
