"""The columns of AITER's kernel tables (``hsa/<arch>/**.csv``), under the names and with the values of every release that has them.

A table is read by the names of its columns. Older names are translated, a column that a release does not have yet gets the value
that its kernels have in later releases. What is not declared here, a column or a value, is not understood: the row is refused.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence

from jax_aiter.kernels.tables.cells import Value

Fields = dict[str, Value]

FLAG = (0, 1)
DTYPES = ("bf16", "fp16")
#: Column kinds: the values that it may have, or any number from 1 on.
SIZE = ()
#: Every table has these: the kernel's symbol and the file of its code object.
SYMBOL, FILE = "knl_name", "co_name"
RENAMED = {"knl_file": FILE}  # up to 0.1.7.post2


class Unreadable(ValueError):
    """A table or one of its rows is not understood: the text names column, value and what is known."""


@dataclasses.dataclass(frozen=True)
class Dialect:
    """One family's tables.

    pattern: of their paths below ``hsa/<arch>``. columns: the known values of each column. renamed: older names of columns.
    absent: what older tables without a column mean, by the row's other fields; None if that cannot be said.
    """

    pattern: str
    columns: Mapping[str, Sequence[Value]]
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    absent: Mapping[str, Callable[[Fields], Value | None]] = dataclasses.field(default_factory=dict)

    def header(self, names: Sequence[str]) -> list[str]:
        """The columns' present names; Unreadable for one that is not known, is there twice, or is missing."""
        found = [{**RENAMED, **self.renamed}.get(name, name) for name in names]
        known = {SYMBOL, FILE, *self.columns}
        for name, given in zip(found, names, strict=True):
            if name not in known or found.count(name) > 1:
                raise Unreadable(f"column {given!r} {'is there twice' if name in known else 'is not known'}")
        for name in sorted(known - {*found} - {*self.absent}):
            raise Unreadable(f"column {name!r} is missing")
        return found

    def row(self, names: Sequence[str], cells: Sequence[str]) -> tuple[str, str, Fields]:
        """Symbol, file and fields of a row; Unreadable if a cell is not understood."""
        if len(cells) != len(names):
            raise Unreadable(f"it has {len(cells)} cells for {len(names)} columns")
        texts = dict(zip(names, cells, strict=True))
        symbol, file = texts.pop(SYMBOL), texts.pop(FILE)
        fields = {name: _value(name, text, self.columns[name]) for name, text in texts.items()}
        if not symbol or not file.endswith(".co") or not {"", ".", ".."}.isdisjoint(file.split("/")):
            raise Unreadable(f"columns {SYMBOL}, {FILE} are {symbol!r}, {file!r}: a symbol and the name of a .co file")
        for name in self.columns.keys() - fields.keys():
            value = self.absent[name](fields)
            if value is None:
                raise Unreadable(f"column {name!r} is missing and its value does not follow from the others")
            fields[name] = value
        return symbol, file, {name: fields[name] for name in self.columns}


def _value(name: str, text: str, known: Sequence[Value]) -> Value:
    number = int(text) if text.isascii() and text.isdigit() else None
    value = text if number is None else number
    if known is SIZE:
        if number is None or number < 1:
            raise Unreadable(f"column {name!r} is {text!r}; it must be a number from 1 on")
    elif value not in known:
        raise Unreadable(f"column {name!r} is {text!r}; known are {', '.join(map(str, known))}")
    return value


def zero(_: Fields) -> Value | None:
    return 0


def unless_persistent(fields: Fields) -> Value | None:
    """The persistent kernels of before 0.1.12 do not say how their cache is quantised."""
    return 0 if fields.get("ps", 0) == 0 else None


_ATTENTION = {
    "dtype": (*DTYPES, "fp8bf16"), "hdim_q": SIZE, "hdim_v": SIZE, "mask": (0, 1, 2, 3), "mode": FLAG, "bf16_cvt": (0, 1, 2, 3),
}  # fmt: skip
_GEMM = {"tile_m": SIZE, "tile_n": SIZE, "splitK": FLAG, "bpreshuffle": FLAG}
DIALECTS = (
    Dialect(
        "fmoe/*.csv",
        {
            "atm": (0, 1, 2), "vskip": FLAG, "smf": (0, 1, 2), "tg_num_perCU": SIZE, "ps": FLAG, "subGU_m": SIZE, "subGU_n": SIZE,
            "flat": (0, 1, 2),
        },
        absent={"flat": zero},
    ),
    Dialect("fmoe_2stages/*.csv", {"tile_m": SIZE, "tile_n": SIZE}),
    Dialect("bf16gemm/bf16gemm_outf32.csv", {"tn": (1,), "tileM": SIZE, "tileN": SIZE, "pf": (3,)}),
    Dialect(
        "bf16gemm/*.csv",
        {
            "tn": (1,), "tileM": SIZE, "tileN": SIZE, "pf": (0, 3), "bPreshuffle": FLAG, "splitK": FLAG, "subK": (64,),
            "bias": FLAG, "clean": FLAG,
        },
        # Up to 0.1.8.
        absent={"subK": lambda _: 64, "bias": zero, "clean": zero},
    ),
    Dialect("f4gemm/*.csv", _GEMM, renamed={"tile_M": "tile_m", "tile_N": "tile_n"}),
    Dialect("fp8gemm_blockscale/*.csv", _GEMM),
    Dialect("i8gemm/*.csv", _GEMM),
    Dialect("fmha_v3_fwd/*.csv", {**_ATTENTION, "ts_qo": SIZE, "ts_kv": SIZE}),
    Dialect(
        "fmha_v3_bwd/*.csv",
        {**_ATTENTION, "atomic32": FLAG, "pssk": FLAG, "pddv": FLAG, "ts_qo": (0, 16, 32), "ts": SIZE},
    ),
    Dialect(
        "fmha_v4_fwd/*.csv",
        {
            **{f"{x}_format": (2, 3, 4, 7, 9, 10) for x in "qkvo"}, **{f"{x}_scale_mode": (0, 1, 4, 5) for x in "qkvo"},
            **{name: _ATTENTION[name] for name in ("hdim_q", "hdim_v", "mask", "mode")}, "ts_qo": SIZE, "ts_kv": SIZE,
        },
    ),
    Dialect(
        "mla*/*.csv",
        {
            "qType": ("bf16", "fp8"), "kvType": ("bf16", "fp8", "byte"), "Gqa": SIZE, "ps": FLAG, "qSeqLen": (0, 1, 2, 4, 8),
            "prefill": FLAG, "causal": FLAG, "lse": FLAG, "cprr": FLAG,
        },
        absent={"lse": zero, "cprr": zero},
    ),
    Dialect(
        "pa/*.csv",
        {
            "qType": DTYPES, "kvType": (*DTYPES, "fp8", "int8"), "Gqa": (0, 8, 10, 16), "Mtp": (0, 1, 12, 13, 14), "Msk": FLAG,
            "Hp": (0, 1, 2), "blkSz": (16, 256, 1024), "ps": FLAG, "qTile": (0, 16, 32, 40, 48, 64), "quant_type": (0, 2, 6, 7),
        },
        # Blocks had 16 keys only up to 0.1.5.post3.
        absent={"blkSz": lambda _: 16, "ps": zero, "qTile": zero, "quant_type": unless_persistent},
    ),
    Dialect("topksoftmax/*.csv", {"subm": SIZE, "num_experts": SIZE, "topk": SIZE, "dtype": ("fp32", "bf16")}),
)  # fmt: skip


def dialect_of(table: str) -> Dialect | None:
    return next((d for d in DIALECTS if fnmatch.fnmatchcase(table, d.pattern)), None)


def read(table: str, rows: Sequence[Sequence[str]]) -> Iterator[tuple[str, str, Fields] | tuple[str, str, Unreadable]]:
    """Symbol, file and fields of every row of a table, or symbol, file and why it is refused. rows: of cells, the header first."""
    dialect, names = dialect_of(table), [cell.strip() for cell in rows[0]] if rows else []
    trouble = None if dialect is not None else Unreadable("no table of this name is known")
    if dialect is not None:
        try:
            names = dialect.header(names)
        except Unreadable as error:
            trouble = error
    for cells in rows[1:]:
        cells = [cell.strip() for cell in cells]
        texts = dict(zip(names, cells, strict=False))
        symbol, file = texts.get(SYMBOL, ""), texts.get(FILE, texts.get("knl_file", ""))
        try:
            if trouble is not None:
                raise trouble
            assert dialect is not None
            yield dialect.row(names, cells)
        except Unreadable as error:
            yield symbol, file, error
