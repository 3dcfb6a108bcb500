"""Every time that AITER's tuned tables ever printed: a shape tuned anew often has another kernel, and so times of several."""

from __future__ import annotations

import collections
import csv
import dataclasses
import fnmatch
import math
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.virtual_time.rows import GEMM, MOE, Row, gemm_row, moe_row
from jax_aiter.kernels.tables import cells, tuned

FOLDER = "aiter/configs"


def states(repository: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each state of each table, the newest first, each content once. repository: a clone of AITER."""

    def git(*args: str, given: str = "") -> bytes:
        return subprocess.run(["git", "-C", str(repository), *args], input=given.encode(), capture_output=True, check=True).stdout

    names: dict[str, str] = {}
    log = git("log", "-m", "--raw", "--no-renames", "--no-abbrev", "--format=", "HEAD", "--", FOLDER).decode()
    for line in log.splitlines():
        fields, _, path = line.partition("\t")
        blob, name = fields.split()[3], path.rpartition("/")[2]
        if name.endswith(".csv") and "untuned" not in name and set(blob) != {"0"}:
            names.setdefault(blob, name)
    content = git("cat-file", "--batch", given="".join(f"{blob}\n" for blob in names))
    at = 0
    for blob, name in names.items():
        end = content.index(b"\n", at)
        header = content[at:end].split()
        if header[0].decode() != blob or header[1] != b"blob":
            raise ValueError(f"{repository} lacks {name} as {blob}: not a full clone")
        size = int(header[2])
        yield name, content[end + 1 : end + 1 + size]
        at = end + size + 2


def rows(repository: Path) -> list[Row]:
    """The lines of all states that name a kernel which can be estimated, with a time, each once, the newest first."""
    found: dict[Row, None] = {}
    for name, content in states(repository):
        try:
            lines = tuned.parsed(name, cells.split(content))
        except (UnicodeDecodeError, csv.Error):
            continue
        for line in lines if isinstance(lines, list) else ():
            for row in _of(name, line):
                if row is not None and math.isfinite(row.us) and row.us > 0:
                    found[row] = None
    return list(found)


def _of(name: str, line: tuned.Row) -> Iterator[Row | None]:
    try:
        for op, pattern in GEMM.items():
            if fnmatch.fnmatchcase(name, pattern):
                yield gemm_row(op, line)
        if fnmatch.fnmatchcase(name, MOE):
            yield moe_row(line)
    except (KeyError, ValueError):  # a line that was edited by hand, of which there are some
        return


@dataclasses.dataclass(frozen=True)
class Group:
    """Kernels that were timed for one call on one device: of each the times of all its campaigns, and a row to estimate."""

    key: str
    kernels: tuple[tuple[Row, tuple[float, ...]], ...]


def groups(found: list[Row], least: int = 2) -> list[Group]:
    """Calls with times of that many kernels or more, a kernel at another split of K being another one."""
    by_call: dict[str, dict[tuple[str, int, int], list[Row]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in found:
        block = row.block_m if row.family == "moe_stage1" else 0
        by_call[row.key][f"{row.implementation} {row.kernel}", row.split, block].append(row)
    every = (Group(key, _distinct(kernels.values())) for key, kernels in by_call.items())
    return [group for group in every if len(group.kernels) >= least]


def _distinct(kernels: Iterable[list[Row]]) -> tuple[tuple[Row, tuple[float, ...]], ...]:
    """Two kernels with one time, to all its digits, are one that was renamed, whose newer name comes first."""
    kept: list[tuple[Row, tuple[float, ...]]] = []
    for same in kernels:
        times = {row.us for row in same}
        if not any(times & set(others) for _, others in kept):
            kept.append((same[0], tuple(sorted(times))))
    return tuple(kept)
