"""AITER's tuned choices (``aiter/configs/**.csv``), under the column names of every release that has them.

A tuned row only says which of several right kernels is quickest. So a file with a column that is not declared here, which may be
part of what its rows hold for, is passed over, and AITER's rules for shapes without a row decide; `passed_over` tells which.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import itertools
from collections.abc import Mapping, Sequence

from jax_aiter.kernels.store import Location, aiter_location, files
from jax_aiter.kernels.tables.cells import Value, cells

Row = Mapping[str, Value]
#: AITER's reading of rows that name no architecture.
ARCH_OF_UNITS: Mapping[Value, str] = {80: "gfx942", 304: "gfx942", 256: "gfx950"}
_MEASURED = ("us", "tflops", "bw", "errRatio")
#: tables without a column for it are of CK's kernels.
CK = {"libtype": "ck"}
_GEMM = frozenset({"gfx", "cu_num", "M", "N", "K", "libtype", "kernelId", "kernelName", "splitK", *_MEASURED})
_MOE = {"gfx", "cu_num", "token", "model_dim", "inter_dim", "expert", "topk", "act_type", "dtype", "q_dtype_a", "q_dtype_w"}
_MOE |= {"q_type", "use_g1u1", "doweight_stage1", "block_m", "ksplit", "kernelName1", "kernelName2", "run_1stage", "xbf16", "flat"}
_MOE |= {"us1", "us2", "err1", "err2", "err", "tag", "_tag", *_MEASURED}


@dataclasses.dataclass(frozen=True)
class Dialect:
    """One family's tables. pattern: of the files' names. columns: the known ones. absent: what older tables without one mean."""

    pattern: str
    columns: frozenset[str]
    absent: Mapping[str, Value] = dataclasses.field(default_factory=dict)


RENAMED = {"total_us": "us"}
DIALECTS = (
    Dialect("*tuned_fmoe*.csv", frozenset(_MOE), {"run_1stage": 0}),
    Dialect("*bf16_tuned_gemm*.csv", _GEMM | {"bias", "dtype", "outdtype", "scaleAB", "bpreshuffle", "solidx", "err_ratio"},
            {"bpreshuffle": "False"}),
    Dialect("*a8w8_bpreshuffle_tuned_gemm*.csv", _GEMM | {"q_dtype_w"}, CK),
    Dialect("*a8w8_blockscale_bpreshuffle_tuned_gemm*.csv", _GEMM, CK),
    Dialect("*a8w8_blockscale_tuned_gemm*.csv", _GEMM, CK),
    Dialect("*a8w8_tuned_gemm*.csv", _GEMM | {"q_dtype_w"}, {**CK, "q_dtype_w": ""}),  # without the column rows hold for both
    Dialect("*a8w8_tuned_batched_gemm*.csv", _GEMM | {"B"}, CK),
    Dialect("*bf16_tuned_batched_gemm*.csv", _GEMM | {"B"}, CK),
    Dialect("*a4w4_blockscale_tuned_gemm*.csv", _GEMM),
)  # fmt: skip


def tuned(pattern: str, key: Sequence[str]) -> Mapping[tuple[Value, ...], Row]:
    """Rows of the tuned tables ``aiter/configs/<pattern>`` (a glob) by the named columns; of equal keys the
    quickest stands, as where AITER merges its files.

    Files are taken in the order of their names, those directly under ``configs`` before those of ``model_configs``.
    """
    return _tuned(pattern, tuple(key), aiter_location())


def tuned_rows(pattern: str) -> tuple[Row, ...]:
    """All rows of the tuned tables `pattern`, in the order that `tuned` takes them."""
    return _read(pattern, aiter_location())[0]


def count() -> int:
    """Rows of all tuned tables that are understood."""
    return sum(len(tuned_rows(dialect.pattern)) for dialect in DIALECTS)


def passed_over() -> Mapping[str, str]:
    """The tuned tables that are not understood, by name, and which column it is."""
    return {name: why for dialect in DIALECTS for name, why in _read(dialect.pattern, aiter_location())[1].items()}


@functools.cache
def _read(pattern: str, where: Location | None) -> tuple[tuple[Row, ...], Mapping[str, str]]:
    if where is None:
        return (), {}
    own, models = (files.matching(where, f"aiter/configs/{folder}{pattern}") for folder in ("", "model_configs/"))
    rows, strange = list[Row](), dict[str, str]()
    for name in (*own, *models):
        found = parsed(name, cells(where, name))
        if isinstance(found, str):
            strange[name] = found
        else:
            rows += found
    return tuple(rows), strange


def parsed(name: str, lines: Sequence[Sequence[str]]) -> list[Row] | str:
    """The rows of a tuned table of this name, whose first line names the columns, or why it is passed over."""
    dialect = next((d for d in DIALECTS if fnmatch.fnmatchcase(name.rpartition("/")[2], d.pattern)), None)
    names, *body = lines or [[]]
    names = [RENAMED.get(column.strip(), column.strip()) for column in names]
    unknown = [column for column in names if dialect is None or column not in dialect.columns]
    if dialect is None or unknown:
        return f"column {unknown[0]!r} is not known" if unknown else "no table of this name is known"
    return [_row(names, line, dialect) for line in body]


def _row(names: Sequence[str], line: Sequence[str], dialect: Dialect) -> Row:
    row = {**dialect.absent, **{column: _value(text) for column, text in itertools.zip_longest(names, line) if column}}
    if "gfx" not in row and row.get("cu_num") in ARCH_OF_UNITS:
        row["gfx"] = ARCH_OF_UNITS[row["cu_num"]]
    return row


@functools.cache
def _tuned(pattern: str, key: tuple[str, ...], where: Location | None) -> Mapping[tuple[Value, ...], Row]:
    found: dict[tuple[Value, ...], Row] = {}
    for row in sorted(_read(pattern, where)[0], key=_microseconds):
        if all(column in row for column in key):
            found.setdefault(tuple(row[column] for column in key), row)
    return found


def _microseconds(row: Row) -> float:
    try:
        return float(row.get("us", "inf"))
    except ValueError:
        return float("inf")


def _value(text: str | None) -> Value:
    text = (text or "").strip()
    try:
        return int(text)
    except ValueError:
        return text
