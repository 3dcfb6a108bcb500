"""Lines of the tables of figures that speak of an op: its page shows them with the command that made them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
#: page -> what its figures are, and the command.
PAGES = {
    "h200.md": "Against the best of JAX on one GPU, by `python -m benchmarks.peers`",
    "h200_tiles.md": "Tiles on one NVIDIA H200, by `jax-aiter tune` and `python -m benchmarks.tiles_report`",
    "virtual_cost.md": "Counted on the virtual gfx942, not timed, by `python -m benchmarks.virtual_cost`",
}


def of(name: str) -> Iterator[str]:
    for page, about in PAGES.items():
        if not (DOCS / page).exists():
            continue
        for header, rows in tables((DOCS / page).read_text()):
            if found := [row for row in rows if re.match(rf"\| `?{name}`?[ ,|]", row)]:
                yield f"{about} ([all of it](../{page})):\n"
                yield from (*header, *found, "")


def tables(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Header (two lines) and rows of each table."""
    for block in re.findall(r"(?:^\|.*\n?)+", text, flags=re.M):
        lines = block.splitlines()
        if len(lines) > 2:
            yield lines[:2], lines[2:]
