"""What a search of tiles found, as a table: python -m benchmarks.tiles_report TUNEFILE ... docs

Writes docs/h200_tiles.json (what is said below, rounded) from tuning files of `jax-aiter tune`: of a call that several have the
tile of the last and of either side the least time, all in the place of the page's own, whose other rows stay. From that alone it
writes docs/h200_tiles.md; a test compares the two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NAME = "h200_tiles"
NOTES = """
Written by `python -m benchmarks.tiles_report` from the tuning files that `jax-aiter tune --shapes` wrote for the calls of
`benchmarks.h200.tile_shapes` and `benchmarks.h200.tile_shapes_attention`. *XLA* is this package's lowering for GPUs (cuDNN for
flash attention, for MoE the cheaper of every expert and blocks of one expert's rows), *Triton* AITER's kernels or ours with the
tile that was found; both are what a call takes inside a program, in a chain of such calls whose own cost, some 10 µs, is in both;
medians in turns, and of several runs the least of either side, as XLA picks its products' tiles anew whenever it compiles.
*Searched* and *AITER's tile* are from the search itself, plans repeated inside one program; of our own kernels the latter is what
they take without a tile, and where nothing stands no search was made of the kernel that runs now. †: of an earlier search, whose
programs were said to have effects: JAX takes 0.2 to 0.5 ms to start such a program, and of calls that take less the table shows
that, not the kernels.
""".strip().replace("\n", " ")


def summary(files: list[Path]) -> dict[str, Any]:
    reports = [json.loads(file.read_text()) for file in files]
    entries: dict[str, dict[str, Any]] = {}
    for key, entry in (item for report in reports for item in report["entries"].items()):
        entries[key] = {**entries.get(key, {}), **entry, "seconds": _least(entries.get(key), entry)}
    rows = [
        {
            "call": f"{key.split(' ')[1]} {entry['measured']}",
            "us": {name: _us(seconds) for name, seconds in entry["seconds"].items()},
            **(_searched(entry) if "tile" in entry else {}),
        }
        for key, entry in sorted(entries.items())
    ]
    return {"device": reports[-1]["device"], "jax": reports[-1]["jax"], "rows": rows}


def _least(before: dict[str, Any] | None, entry: dict[str, Any]) -> dict[str, float]:
    """By side the least of what was measured: XLA picks its own product's tile anew whenever it compiles, by what it times then."""
    known = {} if before is None or before["measured"] != entry["measured"] else before["seconds"]
    return {name: min(seconds, known.get(name, seconds)) for name, seconds in entry["seconds"].items()}


def _searched(entry: dict[str, Any]) -> dict[str, Any]:
    """What a search found; a run without one leaves a row's tile as it is, and measures the sides anew."""
    return {
        "searched_us": _us(entry["tile_seconds"]),
        "own_us": _us(entry["own_seconds"]) if entry.get("own_seconds") else None,
        "tile": entry["tile"],
        "tried": entry["tried"],
    }


def together(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The rows of a page and of new measurements on such a device, one for a call."""
    for name in ("device", "jax"):
        if old[name] != new[name]:
            raise ValueError(f"the page's rows are of {name} {old[name]}, the new ones of {new[name]}")
    rows: dict[str, dict[str, Any]] = {}
    for row in [*old["rows"], *new["rows"]]:
        searched_anew = {"effects"} if "tile" in row else set()
        before = {name: value for name, value in rows.get(row["call"], {}).items() if name not in searched_anew}
        rows[row["call"]] = {**before, **row}
    if lacking := [call for call, row in rows.items() if "tile" not in row]:
        raise ValueError(f"no tile was searched for {', '.join(lacking)}")
    return {**new, "rows": [rows[call] for call in sorted(rows)]}


def _us(seconds: float) -> float:
    return float(f"{1e6 * seconds:.4g}")


def table(found: dict[str, Any]) -> str:
    lines = [f"# Tiles found on one {found['device']} (jax {found['jax']})", "", NOTES, ""]
    lost = [row["call"].split(" ")[0] for row in found["rows"] if row["us"]["triton"] > 1.03 * row["us"]["xla"]]
    lines += [f"Triton takes more than 3 % longer than XLA in {len(lost)} of {len(found['rows'])} calls: {', '.join(lost)}.", ""]
    lines += ["| call | Triton, µs | XLA, µs | XLA / Triton | searched, µs | AITER's tile, µs | tiles tried | tile |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|---|"]
    for row in found["rows"]:
        us, tile = row["us"], " ".join(f"{name}={value}" for name, value in row["tile"].items()) or "AITER's own"
        own = "" if row["own_us"] is None else f"{row['own_us']:.4g}"
        cells = [
            row["call"],
            f"{us['triton']:.4g}",
            f"{us['xla']:.4g}",
            f"{us['xla'] / us['triton']:.2f}",
            "" if row["searched_us"] is None else f"{row['searched_us']:.4g}{'†' if row.get('effects') else ''}",
        ]
        lines.append("| " + " | ".join([*cells, own, str(row["tried"]), tile]) + " |")
    return "\n".join(lines) + "\n"


def main(files: list[Path], folder: Path) -> None:
    page = folder / f"{NAME}.json"
    found = summary(files)
    found = together(json.loads(page.read_text()), found) if page.exists() else found
    page.write_text(json.dumps(found, indent=1) + "\n")
    (folder / f"{NAME}.md").write_text(table(found))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:-1]], Path(sys.argv[-1]))
