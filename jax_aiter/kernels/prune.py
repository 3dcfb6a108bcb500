"""What the cache holds, and the removal of what nothing refers to any more.

Only names that we give are ever counted or removed, and no link is followed: the folder may hold more than the cache.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax_aiter.kernels.cache import CacheError, explained, get_code, locked, read_entry
from jax_aiter.kernels.disk import sweep
from jax_aiter.kernels.marker import TAG, is_marked
from jax_aiter.kernels.store import sources
from jax_aiter.kernels.store.add import sweep_staging
from jax_aiter.kernels.store.files import triton_identity
from jax_aiter.kernels.store.location import KNOWN, UNVERIFIED, Location, aiter_location, entry

_CODE = re.compile(r"[0-9a-f]{64}")
_COPY = re.compile(rf"[0-9a-f]{{40}}|(?:{KNOWN}|{UNVERIFIED})[0-9a-f]{{16,32}}")
_PLAN = re.compile(r"\w+-[^/]+\.json")
_KERNEL = re.compile(r"[0-9a-f]{64}\.json")
_FRONT_END = re.compile(r"\w+-[0-9a-f]{40}\.json")


@dataclasses.dataclass(frozen=True)
class Contents:
    """Plans by (arch, op), plans known to be refused, code objects, bytes in all."""

    plans: dict[tuple[str, str], int]
    refused: int
    codes: int
    nbytes: int


def contents(root: Path) -> Contents:
    """Reads every plan; CacheError if the cache cannot be read."""
    counted: Counter[tuple[str, str]] = Counter()
    refused = 0
    with explained(root):
        for path in _plans(root):
            stored = read_entry(path)
            if isinstance(stored, dict) and "refused" in stored:
                refused += 1
            elif stored is not None:
                counted[(path.parts[-3], path.parts[-2])] += 1
        codes = list(_named(root / "code", _CODE))
        copies = [file for copy in _copies(root) for file in copy.rglob("*") if file.is_file()]
        nbytes = sum(os.lstat(path).st_size for path in [*_plans(root), *_kernels(root), *_front_ends(root), *codes, *copies])
    return Contents(dict(sorted(counted.items())), refused, len(codes), nbytes)


def damaged(root: Path) -> list[Path]:
    """Entries and code objects that fail their hash: the next use builds them again, `prune` removes them."""
    with explained(root):
        bad = [path for path in (*_plans(root), *_kernels(root), *_front_ends(root)) if read_entry(path) is None]
        return bad + [path for path in _named(root / "code", _CODE) if get_code(root, path.name) is None]


def prune(root: Path, everything: bool = False) -> int:
    """Remove plans of another AITER than the present one, unused code and leftovers; all of it with `everything`.

    Returns the bytes freed. CacheError if the folder does not carry our mark: then there may be other things in it.
    """
    if not os.path.lexists(root):
        return 0
    if not is_marked(root):
        raise CacheError(
            f"nothing is removed from {root}: there is no {TAG} of jax_aiter in it, so it held other things when it became the "
            "kernel cache, or an older version made it. Remove by hand what you do not need, or set JAX_AITER_CACHE to a folder of "
            "its own"
        )
    before = contents(root).nbytes
    # Alone: no copy is being added, and no plan built whose code nothing refers to yet.
    with locked(root, "aiter"), locked(root, "build"), explained(root):
        _prune(root, everything)
    return before - contents(root).nbytes


def _prune(root: Path, everything: bool) -> None:
    location = None if everything else aiter_location(root)
    keep = location.identity if location is not None else None
    plans = triton_identity(location)[:24] if location is not None else None
    linked = (root / "aiter").is_symlink()
    if not linked:
        sweep_staging(root)
    for copy in _copies(root):
        if copy.name != keep:
            shutil.rmtree(copy)
            copy.with_name(f"{copy.name}.json").unlink(missing_ok=True)
    for path in _plans(root):
        stored = read_entry(path)
        if everything or stored is None or _of_another(path, stored, plans, location):
            path.unlink(missing_ok=True)
    if everything and not linked:
        entry(root).unlink(missing_ok=True)
    for path in _front_ends(root):
        if everything or not _is_of(read_entry(path), location):
            path.unlink(missing_ok=True)
    used = _used(root)
    for path in _kernels(root):
        stored = read_entry(path)
        if not isinstance(stored, dict) or stored.get("code") not in used:
            path.unlink(missing_ok=True)
    for path in _named(root / "code", _CODE):
        if path.name not in used:
            path.unlink(missing_ok=True)
    flat = [folder for name in ("aiter", "code", "tune") for folder in _folders(root / name, 0)]
    for folder in [root, *flat, *_folders(root / "plans", 3), *_folders(root / "kernels", 1), *_folders(root / "hip", 1)]:
        sweep(folder)
    for folder in sorted(_folders(root / "plans", 3), reverse=True):
        if not os.listdir(folder):
            folder.rmdir()


def _of_another(path: Path, stored: Any, plans: str | None, location: Location | None) -> bool:
    """Whether a plan is of another AITER: one of HIP kernels says of which sources, the folder of the others is named for it."""
    if isinstance(stored, dict) and isinstance(made_of := stored.get("sources"), list):
        return not all(_is_of(source, location) for source in made_of)
    return plans is not None and path.parts[-4] != plans


def _is_of(stored: Any, location: Location | None) -> bool:
    """Whether what was compiled of AITER's sources is of those at `location`."""
    try:
        folders, tree = tuple(map(str, stored["folders"])), stored["tree"]
    except (KeyError, TypeError):
        return False
    return location is None or sources.identity(location, sources.together(location, folders)) == tree


def _used(root: Path) -> set[str]:
    """The code objects that a plan launches, and what was compiled of AITER's sources."""
    stored = [read_entry(path) for path in _front_ends(root)]
    used = {value for entry in stored if isinstance(entry, dict) for value in entry.values() if isinstance(value, str)}
    for path in _plans(root):
        stored = read_entry(path)
        try:
            steps = stored["record"]["steps"] if "record" in stored else ()  # type: ignore[index,operator]
            used.update(step["code"] for step in steps if step["step"] == "launch")
        except (KeyError, TypeError):
            continue  # a plan of no use, whatever hash it has
    return used


def _copies(root: Path) -> Iterator[Path]:
    """The folders with copies of AITER."""
    yield from (path for path in _named(root / "aiter", _COPY) if path.is_dir() and not path.is_symlink())


def _plans(root: Path) -> Iterator[Path]:
    for folder in _folders(root / "plans", 3):
        if len(folder.relative_to(root).parts) == 4:
            yield from _named(folder, _PLAN)


def _kernels(root: Path) -> Iterator[Path]:
    for folder in _folders(root / "kernels", 1):
        if folder != root / "kernels":
            yield from _named(folder, _KERNEL)


def _front_ends(root: Path) -> Iterator[Path]:
    for folder in _folders(root / "hip", 1):
        if folder != root / "hip":
            yield from _named(folder, _FRONT_END)


def _named(folder: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    if folder.is_dir() and not folder.is_symlink():
        yield from sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))


def _folders(top: Path, depth: int) -> Iterator[Path]:
    """`top` and the folders in it, so many deep."""
    if top.is_symlink() or not top.is_dir():
        return
    yield top
    if depth:
        for path in sorted(top.iterdir()):
            yield from _folders(path, depth - 1)
