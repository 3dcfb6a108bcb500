"""``python -m jax_aiter.kernels.hip.coverage``: which of AITER's HIP kernels ran on a virtual device and agreed with an oracle.

Per source: the release that it was compiled from, the ops, how many different kernels were executed, how many agreed. A kernel is a
symbol of a source for an architecture; sources that differ in a byte of what the compiler may read are two.

The record of what ran is `proven.json` beside this file. The tests of `tests/hip/device` write what they run into the file that
JAX_AITER_HIP_COVERAGE names; ``--merge FILE`` takes that over. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jax_aiter.core.text import json_by_line
from jax_aiter.kernels.cache import digest
from jax_aiter.kernels.hip.adapters import adapter
from jax_aiter.kernels.hip.build.source import source
from jax_aiter.kernels.hip.build.templates import parts
from jax_aiter.kernels.hip.provider import ARCHS, recorded
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.store import aiter_location
from jax_aiter.kernels.store.survey import survey

PROVEN = Path(__file__).with_name("proven.json")
JOINED = " + "  # sources that one plan's kernels are of
HEADER = "| built from: source, release | ops | executed | agreed |"

#: by a name for symbol, source and architecture: these, the ops that launched it, and the outcome (executed, agreed, differed).
Record = Mapping[str, Mapping[str, Any]]


def entry_of(spec: CallSpec, symbol: str) -> tuple[str, dict[str, Any]]:
    """The key and the facts of a kernel that a call launches, of the release that is here."""
    found, where = adapter(spec.op), aiter_location()
    assert where is not None
    names = found.sources(recorded(found, spec))
    made_of = [source(where, name).identity for name in names]
    key = digest("\n".join((spec.arch, symbol, *made_of)).encode())[:32]
    return key, {"arch": spec.arch, "symbol": symbol, "source": JOINED.join(names), "release": survey(where).release or "unknown"}


def merged(record: Record, fresh: Iterable[Record]) -> dict[str, Mapping[str, Any]]:
    """The record with newer ones, whose outcomes go before its own; what only ran is not taken for less than what it did before."""
    found = dict(record)
    for newer in fresh:
        for key, entry in newer.items():
            old = found.get(key, {})
            outcome = old["outcome"] if old and entry["outcome"] == "executed" else entry["outcome"]
            found[key] = {**entry, "outcome": outcome, "ops": sorted({*old.get("ops", ()), *entry["ops"]})}
    return found


def markdown(record: Record, arch: str) -> Iterator[str]:
    """The table of an architecture, under a line of totals."""
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for entry in record.values():
        if entry["arch"] == arch:
            rows[_files(entry["source"]), entry["release"]].append(entry)
    entries = [entry for found in rows.values() for entry in found]
    yield f"{arch}, AITER's HIP kernels: {_counts(entries)}"
    yield ""
    yield HEADER
    yield "|---|---|--:|--:|"
    for (name, release), found in sorted(rows.items()):
        ops = ", ".join(sorted({op for entry in found for op in entry["ops"]}))
        yield f"| {name}, {release} | {ops} | {len(found)} | {_agreed(found)} |"


def _files(source: str) -> str:
    """Without the values of templates, of which one file makes a source for each call's."""
    return JOINED.join(parts(name)[0] for name in source.split(JOINED))


def _agreed(entries: Iterable[Mapping[str, Any]]) -> int:
    return sum(entry["outcome"] == "agreed" for entry in entries)


def _counts(entries: list[Mapping[str, Any]]) -> str:
    return f"{len(entries)} different ones executed, {_agreed(entries)} agreed"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m jax_aiter.kernels.hip.coverage", description=__doc__)
    parser.add_argument("--record", type=Path, default=PROVEN, help="what ran (default: the shipped record)")
    parser.add_argument("--merge", type=Path, nargs="*", metavar="FILE", help="first merge newer records into the record")
    options = parser.parse_args()
    record: Record = json.loads(options.record.read_text())
    if options.merge is not None:
        record = merged(record, [json.loads(path.read_text()) for path in options.merge])
        options.record.write_text(json_by_line(record))
    print("\n\n".join("\n".join(markdown(record, arch)) for arch in ARCHS))


if __name__ == "__main__":
    main()
