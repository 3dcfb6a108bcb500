"""The tuned rows that AITER's build compiles in: of its table and of its models' tables, as it merges them (aiter/jit/core.py).

Of rows for the same call the quickest stands. AITER forgets the device there, and drops rows for which another one's is quicker;
here each device keeps its own, by which calls are told what they get (`gemm.entries`).
"""

from __future__ import annotations

import csv
import io

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.store import Location, files

MODELS = "aiter/configs/model_configs/"
KEY = ("gfx", "cu_num", "B", "M", "N", "K", "q_dtype_w")


def names(where: Location, table: str) -> tuple[str, ...]:
    """The files of a table, those that there are, its own first."""
    models = files.matching(where, f"{MODELS}*{table.rpartition('/')[2].removesuffix('.csv')}*")
    own = (table,) if files.has(where, table) else ()
    return (*own, *(name for name in models if "untuned" not in name))


def merged(where: Location, table: str) -> bytes | None:
    """The table as AITER's script reads it; None if the release has none. KernelBuildError where AITER would not merge them."""
    found = names(where, table)
    if len(found) < 2:
        return files.read(where, found[0]) if found else None
    columns: list[str] = []
    rows: list[list[str]] = []
    for name in found:
        header, *more = [line for line in csv.reader(io.StringIO(files.read(where, name).decode())) if line]
        if columns and header != columns:
            raise KernelBuildError(f"{name} and {found[0]} have other columns than each other, and AITER merges them")
        columns, rows = header, [*rows, *more]
    key, us = [columns.index(column) for column in KEY if column in columns], columns.index("us")
    best: dict[tuple[str, ...], list[str]] = {}
    for row in sorted(rows, key=lambda row: float(row[us])):
        best.setdefault(tuple(row[place] for place in key), row)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([columns, *best.values()])
    return out.getvalue().encode()
