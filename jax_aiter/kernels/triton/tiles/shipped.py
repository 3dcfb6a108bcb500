"""The tiles that come with this package: per architecture a table of what was measured, for calls that nobody tuned.

``defaults/<arch>.json`` holds ``{"version": 1, "rows": [{"op": ..., "dtypes": {operand: dtypes}, "params": {name: value},
"bucket": {size's name: size}, "tile": {...}, "origin": ...}]}``. A row is for calls of its op that have the dtypes and parameters
that it names; of those that fit, the one with the nearest bucket counts. An architecture without a table uses AITER's own
configurations, as AMD's do: AITER tuned those.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax_aiter.bind import searched
from jax_aiter.kernels.spec import CallSpec, Tile

FOLDER = Path(__file__).parent / "defaults"
VERSION = 1
FIELDS = {"op": str, "dtypes": dict, "params": dict, "bucket": dict, "tile": dict, "origin": str}


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured tile. dtypes ("this|or that"), params: what a call must have; what else it has may be anything."""

    op: str
    dtypes: Mapping[str, str]
    params: Mapping[str, Any]
    bucket: Mapping[str, int]
    tile: Tile
    origin: str

    def covers(self, spec: CallSpec) -> bool:
        return (
            self.op == spec.op
            and all(spec.has(name) and spec[name].dtype in dtype.split("|") for name, dtype in self.dtypes.items())
            and all(name in spec.params and _plain(spec.params[name]) == value for name, value in self.params.items())
        )


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


@functools.cache
def rows(arch: str) -> tuple[Row, ...]:
    """The rows for an architecture, () if it has no table. ValueError names the file, the row and what is wrong with it."""
    path = FOLDER / f"{arch}.json"
    return parse(path.read_text(), path.name) if path.is_file() else ()


def parse(text: str, name: str) -> tuple[Row, ...]:
    """The rows of a table's text; `name` says in errors where it is from."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON ({error})") from None
    version = data.get("version") if isinstance(data, dict) else None
    if version != VERSION or not isinstance(data.get("rows"), list):
        raise ValueError(f'{name}: expected {{"version": {VERSION}, "rows": [...]}}, got version {version!r}')
    return tuple(_row(f"{name}: row {number}", row) for number, row in enumerate(data["rows"]))


def _row(where: str, row: Any) -> Row:
    if not isinstance(row, dict) or row.keys() != FIELDS.keys():
        raise ValueError(f"{where} must be an object of {', '.join(FIELDS)}, got {str(row)[:80]}")
    for field, kind in FIELDS.items():
        if not isinstance(row[field], kind):
            raise ValueError(f"{where}: {field} must be of type {kind.__name__}, got {row[field]!r}")
    if not row["bucket"]:
        raise ValueError(f"{where}: bucket is empty, so nothing says which calls it is for")
    if not all(isinstance(dtype, str) for dtype in row["dtypes"].values()):
        raise ValueError(f"{where}: dtypes must be names, got {row['dtypes']!r}")
    return Row(**{**row, "bucket": searched.sizes(where, row["bucket"]), "tile": searched.tile(where, row["tile"])})
