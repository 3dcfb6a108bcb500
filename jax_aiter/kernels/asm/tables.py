"""AITER's tables: which kernel lies in which code object (``hsa/<arch>/**.csv``), and tuned choices (``aiter/configs/**.csv``).

Each file is read once per process, when something first asks for it.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.asm import dialects, listed
from jax_aiter.kernels.asm.dialects import Value
from jax_aiter.kernels.cache import cache_root
from jax_aiter.kernels.known import file_hash, is_before, newest_release
from jax_aiter.kernels.manifest import manifest
from jax_aiter.kernels.store import Location, aiter_location


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
        return self.fields[column]

    def number(self, column: str) -> int:
        value = self.fields[column]
        if not isinstance(value, int):
            raise KernelBuildError(f"AITER's table {self.table}: column {column} of {self.symbol} is {value!r}, not a number")
        return value

    def code(self) -> bytes:
        """The code object. KernelBuildError if it is gone, or differs from the pinned commit's."""
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
    """Where AITER's files are. KernelBuildError with the remedy if they are not there."""
    found = aiter_location(cache_root())
    if found is None or not (found.path / "hsa").is_dir():
        raise KernelBuildError(
            "AITER's code objects were not found; add a checkout of the pinned commit with `jax-aiter kernels add PATH`"
        )
    return found


@functools.lru_cache(maxsize=256)
def _code(path: str, where: Location) -> bytes:
    try:
        data = (where.path / path).read_bytes()
    except OSError as error:
        raise KernelBuildError(f"AITER's code object {path}: {error.strerror}; run `jax-aiter kernels add PATH` again") from error
    if where.verified and manifest().get(path) != file_hash(data):
        raise KernelBuildError(f"AITER's code object {path} is damaged; run `jax-aiter kernels add PATH` again")
    return data


def kernels(arch: str, table: str) -> tuple[Kernel, ...]:
    """The rows of ``hsa/<arch>/<table>`` in the file's order; () if AITER has no such table for the arch.

    Where a release's host code lists the kernels itself, they are those.
    TableError if there are rows and none is understood.
    """
    found, refused = _kernels(arch, table, location().path)
    if refused and not found:
        raise TableError(str(next(iter(refused.values()))))
    return found


def refused(arch: str, table: str) -> Mapping[str, TableError]:
    """Why rows of a table are not understood, by the path of the code object."""
    return {row.path: why for row, why in _kernels(arch, table, location().path)[1].items()}


def refused_row(arch: str, table: str, kernel: str) -> TableError | None:
    """Why the row called `kernel` is not understood; None if it is, or if there is none."""
    rows = _kernels(arch, table, location().path)[1]
    row = named(rows, kernel)
    return None if row is None else rows[row]


class TableError(KernelBuildError):
    """A table of AITER's is not understood; the message names table, kernel, column and value."""


@functools.cache
def _kernels(arch: str, table: str, top: Path) -> tuple[tuple[Kernel, ...], Mapping[Kernel, TableError]]:
    base = top / "hsa" / arch
    folder = f"hsa/{arch}/{table}".rpartition("/")[0]
    if (base / table).is_file():
        rows = dialects.read(table, _cells(base / table))
    else:
        rows = listed.read(arch, table, (path.name for path in (top / folder).glob("**/*.co")))
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
    return Kernel(arch, symbol, full, "", {}) if (location().path / full).is_file() else None


def tuned(pattern: str, key: Sequence[str]) -> Mapping[tuple[Value, ...], Mapping[str, Value]]:
    """Rows of the tuned tables ``aiter/configs/<pattern>`` (a glob) by the named columns; of equal keys the first row stands.

    Files are taken in the order of their names, those directly under ``configs`` before those of ``model_configs``.
    """
    return _tuned(pattern, tuple(key), location().path)


def tuned_rows(pattern: str) -> tuple[Mapping[str, Value], ...]:
    """All rows of the tuned tables `pattern`, in the order that `tuned` takes them."""
    return _tuned_rows(pattern, location().path)


@functools.cache
def _tuned_rows(pattern: str, top: Path) -> tuple[Mapping[str, Value], ...]:
    folder = top / "aiter" / "configs"
    files = [*sorted(folder.glob(pattern)), *sorted(folder.glob(f"model_configs/{pattern}"))]
    return tuple(row for path in files for row in _rows(path))


@functools.cache
def _tuned(pattern: str, key: tuple[str, ...], top: Path) -> Mapping[tuple[Value, ...], Mapping[str, Value]]:
    found: dict[tuple[Value, ...], Mapping[str, Value]] = {}
    for row in _tuned_rows(pattern, top):
        if all(column in row for column in key):
            found.setdefault(tuple(row[column] for column in key), row)
    return found


def _rows(path: Path) -> list[dict[str, Value]]:
    """The rows of a CSV file by column. A file that is not there has none."""
    if not path.is_file():
        return []
    names, *rows = _cells(path) or [[]]
    return [{k.strip(): _value(v) for k, v in itertools.zip_longest(names, row) if k} for row in rows]


def _cells(path: Path) -> list[list[str]]:
    """The cells of a CSV file, the header first; lines that begin with # or // are comments."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = (line for line in file if not line.lstrip().startswith(("#", "//")))
        return [row for row in csv.reader(lines) if row]


def _value(text: str | None) -> Value:
    text = (text or "").strip()
    try:
        return int(text)
    except ValueError:
        return text
