"""What the cache holds, and the removal of what nothing refers to any more."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

from jax_aiter.kernels.cache import get_code, locked, read_entry
from jax_aiter.kernels.store import aiter_location


@dataclasses.dataclass(frozen=True)
class Contents:
    """Plans by (arch, op), plans known to be refused, code objects, bytes in all."""

    plans: dict[tuple[str, str], int]
    refused: int
    codes: int
    nbytes: int


def _plan_files(root: Path) -> list[Path]:
    return sorted((root / "plans").glob("*/*/*/*.json"))


def contents(root: Path) -> Contents:
    counted: Counter[tuple[str, str]] = Counter()
    refused = 0
    for path in _plan_files(root):
        stored = read_entry(path)
        if stored is not None and "refused" in stored:
            refused += 1
        elif stored is not None:
            counted[(path.parts[-3], path.parts[-2])] += 1
    files = [path for path in root.rglob("*") if path.is_file()] if root.is_dir() else []
    codes = sum(path.parent == root / "code" for path in files)
    return Contents(dict(sorted(counted.items())), refused, codes, sum(path.stat().st_size for path in files))


def damaged(root: Path) -> list[Path]:
    """Entries and code objects that fail their hash. They are removed: the next use builds them again."""
    bad = []
    for path in [*_plan_files(root), *(root / "kernels").glob("*/*.json")]:
        if read_entry(path) is None:
            bad.append(path)
    bad += [path for path in sorted((root / "code").glob("*")) if len(path.name) == 64 and get_code(root, path.name) is None]
    return bad


def prune(root: Path, everything: bool = False) -> int:
    """Remove plans of another AITER than the present one, unused code and leftovers; all of it with `everything`.

    Returns the bytes freed.
    """
    before = contents(root).nbytes
    with locked(root, "aiter"):
        location = aiter_location(root)
        keep = {location.identity[:24]} if location is not None and not everything else set()
        for folder in (root / "plans").glob("*"):
            if folder.name not in keep and (location is not None or everything):
                shutil.rmtree(folder, ignore_errors=True)
        for folder in (root / "aiter").glob("*"):
            old = location is None or folder != location.path
            if folder.is_dir() and (everything or old):
                shutil.rmtree(folder, ignore_errors=True)
        if everything:
            for name in ("kernels", "aiter"):
                shutil.rmtree(root / name, ignore_errors=True)
        _remove_unused_code(root)
    return before - contents(root).nbytes


def _remove_unused_code(root: Path) -> None:
    used: set[str] = set()
    for path in _plan_files(root):
        stored = read_entry(path)
        steps = stored["record"]["steps"] if stored is not None and "record" in stored else ()
        used.update(step["code"] for step in steps if step["step"] == "launch")
    for path in (root / "kernels").glob("*/*.json"):
        stored = read_entry(path)
        if stored is not None and stored["code"] not in used:
            path.unlink(missing_ok=True)
    for path in (root / "code").glob("*"):
        if path.name not in used:
            path.unlink(missing_ok=True)
