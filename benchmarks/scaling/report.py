"""docs/scaling.md and its plot from what was measured: python -m benchmarks.scaling.report OUT/scaling.json [MORE.json ...] docs

Writes docs/scaling.json (the same, rounded), and from that alone docs/scaling.md and docs/scaling.svg: a test compares them. Only
what ran is said. Of several runs on one kind of device the last one counts that has a part.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.report import rounded
from benchmarks.scaling.decode import named
from benchmarks.scaling.moe import ALONE, PLAIN
from benchmarks.scaling.plot import plot
from jax_aiter.cli.bench import table

Row = dict[str, Any]
NOTES = {
    "moe": """
Times are of whole calls, queued, medians in µs; T is the tokens of all devices together. *Exchange*, *psum* and *ragged_dot* are
the same layer on so many devices: `expert_parallel` by its exchange and by its masked sum, and JAX alone (the tokens of all, sort
and `lax.ragged_dot` with the experts held, a sum that is scattered). *Speed-up*: `fused_moe` on one device over the exchange.
*Exchange alone*: the same call without its experts (sorting, copies, all-to-all there and back), timed by itself, and its share of
the call. *Apart*: the results' largest distance from `fused_moe` on one device (relative, Frobenius norm), gradients included.
""",
    "decode": """
Each step is one call of one program. Heads, columns of attention and the vocabulary are split over all devices, experts are spread
over `expert`, and the columns of each expert split over `model`. *Apart*: logits of a step from those of one device; — where none
ran on one.
""",
    "train": """
`data` and `expert` split the batch, experts are spread over `expert`, heads and columns split over `model`. *Apart*: the largest
difference of a loss from that of one device (relative), over all steps run; on one device a batch that has no room runs in parts.
""",
}


def flowing(text: str) -> str:
    return text.strip().replace("\n", " ")


def lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def us(row: Row | None) -> str:
    if row is None:
        return "—"
    return f"{1e6 * row['s']:,.0f}" if "s" in row else table._why(row["failed"])


def ratio(of: Row | None, over: Row | None) -> float | None:
    """Of their times, if both ran."""
    return of["s"] / over["s"] if of is not None and over is not None and "s" in of and "s" in over else None


def apart(rows: Iterable[Row | None]) -> str:
    found = [row["difference"] for row in rows if row is not None and "difference" in row]
    return f"{max(found):.1e}" if found else "—"


def of(rows: Iterable[Row], part: str) -> list[Row]:
    return [row for row in rows if row["part"] == part]


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def moe(rows: list[Row]) -> list[str]:
    header = ["layer", "T", "", "devices", "exchange", "speed-up", "exchange alone", "share", "psum", "ragged_dot", "apart"]
    made = []
    for (shape, tokens, gradient), group in grouped(rows, lambda r: (r["shape"], r["tokens"], r["gradient"])).items():
        base = next((row for row in group if row["way"] == "fused_moe"), None)
        for devices, ways in grouped(group, lambda r: r["devices"]).items():
            way = {row["way"]: row for row in ways}
            first = way.get("fused_moe") or way.get("exchange")
            alone = way.get(ALONE)
            gain, share = ratio(base, first), ratio(alone, first)
            gain, share = f"{gain:.2f}" if gain else "—", f"{share:.0%}" if share else "—"
            shown = f"{us(first)} (`fused_moe`)" if devices == 1 else us(first)
            cells = [shown, gain, us(alone), share, us(way.get("psum")), us(way.get("ragged_dot"))]
            passes = "forward + backward" if gradient else "forward"
            made.append([shape, f"{tokens:,}", passes, str(devices), *cells, apart(ways)])
    return lines(header, made)


def decode(rows: list[Row]) -> list[str]:
    """Tokens per second by mesh and batch."""
    batches = sorted({row["batch"] for row in rows})
    base = {row["batch"]: row for row in rows if row["devices"] == 1}
    made = []
    for mesh, group in grouped(rows, lambda r: named(r["mesh"])).items():
        by = {row["batch"]: row for row in group}
        made.append([str(group[0]["devices"]), mesh, *(_rate(by.get(b), base.get(b)) for b in batches), apart(group)])
    return lines(["devices", "mesh", *(f"batch {b}, tokens/s" for b in batches), "apart"], made)


def _rate(row: Row | None, base: Row | None) -> str:
    if row is None:
        return "—"
    if "tokens_per_s" not in row:
        return table._why(row["failed"])
    said = f"{row['tokens_per_s']:,.0f}"
    if base is None or base is row or "tokens_per_s" not in base:
        return said
    return f"{said} ({row['tokens_per_s'] / base['tokens_per_s']:.2f}x)"


def train(rows: list[Row]) -> list[str]:
    """Strong: against the same batch on one device. Weak: against one device with as many sequences on it."""
    alone = {row["batch"]: row for row in rows if row["devices"] == 1 and row["accumulate"] == 1 and "s" in row}
    made = []
    for row in rows:
        each = row["batch"] // row["devices"]
        same, little = alone.get(row["batch"]), alone.get(each)
        strong = f"{same['s'] / row['s']:.2f}" if same and "s" in row and row is not same else "—"
        weak = f"{little['s'] / row['s']:.0%}" if little and "s" in row and row is not little else "—"
        parts = f" in {row['accumulate']} parts" if row["accumulate"] > 1 else ""
        rate = f"{row['tokens_per_s']:,.0f}" if "s" in row else "—"
        time = f"{1e3 * row['s']:,.1f}" if "s" in row else table._why(row["failed"])
        loss = f"{row['bits'][-1]:.5f}" if row.get("bits") else "—"
        made.append(
            [str(row["devices"]), named(row["mesh"]), f"{row['batch']}{parts}", time, rate, strong, weak, loss, apart([row])]
        )
    header = ["devices", "mesh", "sequences", "ms a step", "tokens/s", "speed-up, same batch", "efficiency, same batch a device"]
    return lines([*header, "last loss, bits a byte", "apart"], made)


def failures(report: Row) -> list[str]:
    """Of what ran, what gave other numbers."""
    wrong = [row for row in report["rows"] if "difference" in row and "failed" in row]
    if not wrong:
        return ["Every result lies within its bound of that of one device."]
    return [
        f"- {row['part']}, {row.get('way', named(row.get('mesh', {})))}, {row['devices']} devices: {row['failed']}" for row in wrong
    ]


def markdown(report: Row) -> str:
    most = max(row["devices"] for row in report["rows"])
    beside = "" if not any("compiled_beside" in row for row in report["rows"]) else " While some rows ran other programs compiled."
    said = [
        "# Scaling over devices",
        "",
        f"Measured on {report['there']} {report['device']} of one host (jax {report['jax']}) by `{report['command']}`, and written "
        f"from its file by `python -m benchmarks.scaling.report`. It says nothing of more than {most} devices.{beside}",
        "",
        "![speed against one device](scaling.svg)",
        "",
        *failures(report),
    ]
    titles = {"moe": "## A layer of experts", "decode": "## Decoding", "train": "## Training"}
    for part, make in (("moe", moe), ("decode", decode), ("train", train)):
        if rows := of(report["rows"], part):
            about = [f"{report[part]}. "] if part in report else []
            said += ["", titles[part], "", "".join([*about, flowing(NOTES[part])]), "", *make(rows)]
    return "\n".join(said) + "\n"


def merged(reports: Sequence[Row]) -> Row:
    """One report: each part, and what JAX alone did of the experts, as the last run has it that measured any of it. ValueError if
    they are of different devices or jax."""
    for name in ("device", "jax", "there", "small"):
        if len(found := {report[name] for report in reports}) > 1:
            raise ValueError(f"runs of one page have the same {name}, these have {found}")
    parts = {part: rows for report in reports for part, rows in grouped(report["rows"], _part).items()}
    commands = list(
        dict.fromkeys(report["command"] for report in reports if any(row in parts[_part(row)] for row in report["rows"]))
    )
    return {**reports[-1], "command": "` and `".join(commands), "rows": [row for rows in parts.values() for row in rows]}


def _part(row: Row) -> tuple[str, bool]:
    return row["part"], row.get("way") == PLAIN


def main(sources: Sequence[Path], folder: Path) -> None:
    report = rounded(merged([json.loads(source.read_text()) for source in sources]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scaling.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "scaling.md").write_text(markdown(report))
    plot(report, folder / "scaling.svg")


if __name__ == "__main__":
    *sources, folder = map(Path, sys.argv[1:])
    main(sources, folder)
