"""``python -m jax_aiter.kernels.asm.coverage``: which of AITER's code objects the ops can run, and which ran and agreed.

The record of what ran is `coverage.json` beside this file, written by the tests of `tests/asm` on the virtual device
(JAX_AITER_COVERAGE names the file); everything else is read from AITER's files. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from jax_aiter.kernels.asm.device import ARCHS
from jax_aiter.kernels.asm.registry import adapters
from jax_aiter.kernels.asm.tables import kernels, location

RECORD = Path(__file__).with_name("coverage.json")
HEADER = "| family | variant | ops | objects | excluded | executed | agreed |"


def rows(arch: str, record: dict[str, dict[str, str]]) -> Iterator[tuple[str, ...]]:
    """Per folder and table: family, variant, ops, then the counts."""
    top = location().path
    ops: dict[str, set[str]] = defaultdict(set)
    never: dict[str, set[str]] = defaultdict(set)
    for adapter in adapters().values():
        for table in adapter.tables:
            ops[table].add(adapter.op)
            never[table] |= {r.path for r in kernels(arch, table) if adapter.never(r)}
    seen: set[str] = set()
    folder = top / "hsa" / arch
    for file in sorted(folder.rglob("*.csv")):
        table = file.relative_to(folder).as_posix()
        listed = {r.path for r in kernels(arch, table)}
        seen |= _objects(listed, record, top)
        yield _row(table.removesuffix(".csv"), sorted(ops[table]), _objects(listed, record, top), never[table], record)
    loose: dict[str, set[str]] = defaultdict(set)
    for file in folder.rglob("*.co"):
        path = file.relative_to(top).as_posix()
        if path not in seen:
            parent = file.parent.relative_to(folder).as_posix()
            loose["not in a table" if parent == "." else f"{parent}/not in its table"].add(path)
    for name, paths in sorted(loose.items()):
        yield _row(name, [], paths, set(), record)


def _objects(listed: set[str], record: dict[str, dict[str, str]], top: Path) -> set[str]:
    """The files behind a table's rows; a folder may hold one variant of them per device (fmha_v3_fwd: MI300, MI308)."""
    found = {p for p in listed if (top / p).is_file()}
    for path in listed - found:
        pure = PurePosixPath(path)
        found |= {f.relative_to(top).as_posix() for f in (top / pure.parent).glob(f"*/{pure.name}")}
    return found


def _row(name: str, ops: list[str], objects: set[str], never: set[str], record: dict[str, dict[str, str]]) -> tuple[str, ...]:
    family, _, variant = name.rpartition("/")
    ran = [record[p]["outcome"] for p in objects if p in record]
    excluded = len(never & objects)
    counts = (len(objects), excluded if ops else "-", len(ran), sum(outcome == "agreed" for outcome in ran))
    return (family or variant, variant if family else "", ", ".join(ops) or "none", *map(str, counts))


def markdown(arch: str, record: dict[str, dict[str, str]], *, served: bool) -> str:
    """The table of one architecture; `served` leaves out what no op uses."""
    found = list(rows(arch, record))
    shown = [r for r in found if not served or r[2] != "none" or r[5] != "0"]
    agreed, executed = (sum(int(r[i]) for r in found) for i in (6, 5))
    lines = [f"{arch}: {executed} code objects executed, {agreed} agreed with their oracle.", "", HEADER]
    lines.append("|---|---|---|--:|--:|--:|--:|")
    lines += [f"| {' | '.join(row)} |" for row in shown]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m jax_aiter.kernels.asm.coverage", description=__doc__)
    parser.add_argument("--record", type=Path, default=RECORD, help="what ran (default: the shipped record)")
    parser.add_argument("--all", action="store_true", help="also list code objects that no op runs")
    options = parser.parse_args()
    record = json.loads(options.record.read_text())
    print("\n\n".join(markdown(arch, record, served=not options.all) for arch in ARCHS))


if __name__ == "__main__":
    main()
