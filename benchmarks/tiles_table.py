"""The tiles that ship with the package, from what was measured: python -m benchmarks.tiles_table TUNEFILE [--arch sm_90].

Takes the entries of a tuning file (`jax-aiter tune`) whose tiles were searched and puts them as rows into
``jax_aiter/kernels/triton/tiles/defaults/<arch>.json``, in the place of rows for the same kind of call and sizes. Rows are for
every call of the op with such dtypes, whatever its other parameters are, but for those in `KEYED`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from jax_aiter.bind import tuning
from jax_aiter.kernels.triton.tiles import shipped

#: parameters by op for which a tile is another one; calls that differ in others share rows.
KEYED = {
    "fused_moe": ("quant_type",),
    "flash_attention": ("sliding_window",),
    "flash_attention_varlen": ("sliding_window",),
    "flash_attention_bwd": ("causal",),
}
#: types that a tile does not tell apart.
ALIKE = (("bfloat16", "float16"),)


def row(key: str, entry: tuning.Entry, about: str) -> dict[str, Any]:
    """The row for one entry of a tuning file; `about` says on what it was measured."""
    searched = entry.searched
    assert searched is not None
    call, _, params = key.partition(" | ")
    _, op, *operands = call.split(" ")
    kinds = {name: dtype for name, _, dtype in (text.partition("[")[0].partition("=") for text in operands)}
    given = {name: value for name, _, value in (text.partition("=") for text in params.split(" "))}
    own = "" if searched.own_seconds is None else f", AITER's own {1e6 * searched.own_seconds:.4g}"
    return {
        "op": op,
        "dtypes": {name: "|".join(_alike(dtype)) for name, dtype in kinds.items() if not dtype.startswith(("int32", "float32"))},
        "params": {name: _value(given[name]) for name in KEYED.get(op, ()) if name in given},
        "bucket": dict(searched.bucket),
        "tile": dict(searched.tile),
        "origin": f"{about}: {1e6 * searched.seconds:.4g} µs{own}",
    }


def _value(spelled: str) -> str | bool | list[int]:
    """A parameter as its call has it; those of `KEYED` are names, yes and no, or windows."""
    if spelled.startswith("("):
        return json.loads(f"[{spelled[1:-1]}]")
    return {"True": True, "False": False}.get(spelled, spelled)


def _alike(dtype: str) -> tuple[str, ...]:
    return next((kinds for kinds in ALIKE if dtype in kinds), (dtype,))


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows, the new ones in the place of old ones for the same calls."""
    found = {json.dumps([r[name] for name in ("op", "dtypes", "params", "bucket")], sort_keys=True): r for r in [*old, *new]}
    return [found[name] for name in sorted(found)]


def text(rows: list[dict[str, Any]]) -> str:
    """A table, one row a line."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'{{"version": {shipped.VERSION}, "rows": [\n{lines}\n]}}\n'


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--fresh", action="store_true", help="drop the rows that the table has now")
    options = parser.parse_args()
    written = json.loads(options.file.read_text())
    about = f"{written.get('device', options.arch)}, jax {written.get('jax', '?')}"
    entries = tuning.parse(options.file.read_text())
    new = [
        row(key, entry, about)
        for key, entry in entries.items()
        if entry.searched is not None and entry.searched.bucket and key.startswith(f"{options.arch} ")
    ]
    path = shipped.FOLDER / f"{options.arch}.json"
    old = [] if options.fresh or not path.exists() else json.loads(path.read_text())["rows"]
    table = text(merged(old, new))
    shipped.parse(table, path.name)
    path.write_text(table)
    print(f"{len(new)} rows of {options.file} in {path}, {len(merged(old, new))} in all")


if __name__ == "__main__":
    main()
