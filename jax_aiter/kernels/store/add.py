"""Brings AITER's files into the cache: each is compared with the manifest before it is written."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from jax_aiter.core.text import one_line
from jax_aiter.kernels.cache import CacheError, cache_root, canonical, digest, explained, locked, write_entry
from jax_aiter.kernels.disk import TEMPORARY
from jax_aiter.kernels.known import AITER_COMMIT, is_wanted
from jax_aiter.kernels.manifest import LANDMARK, Fact, manifest
from jax_aiter.kernels.store.location import UNVERIFIED, Location, entry, in_cache, listing
from jax_aiter.kernels.store.names import SourceError
from jax_aiter.kernels.store.source import read_source

Progress = Callable[[int, int], None]


class VerificationError(ValueError):
    """Files differ from the pinned commit's; the message counts them and names the first."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def add_aiter(path: Path, *, unverified: bool = False, root: Path | None = None, progress: Progress | None = None) -> Location:
    """Compare the AITER files at `path` with the manifest and copy them into the cache.

    path: a checkout, a git directory (the pinned commit is read from it), or a tar or zip archive.
    unverified: accept files that differ from the manifest; plans made from them are kept apart.
    progress: called with (files done, files expected).
    Raises SourceError (no AITER there, or damaged), VerificationError (files differ or are missing), CacheError.
    """
    root = root or cache_root()
    with locked(root, "aiter"):
        with explained(root / "aiter"):
            (root / "aiter").mkdir(mode=0o700, exist_ok=True)
            sweep_staging(root)
            staging = Path(tempfile.mkdtemp(dir=root / "aiter", prefix=TEMPORARY))
        try:
            found = _stage(path, staging, unverified, progress)
            identity = _identity(path, found, unverified)
            if identity != AITER_COMMIT:
                write_entry(listing(root, identity), {name: list(fact) for name, fact in found.items()})
            with explained(root):
                _put_in_place(staging, root / "aiter" / identity)
            write_entry(entry(root), {"identity": identity})
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return in_cache(root, identity)


def sweep_staging(root: Path) -> None:
    """Remove the folders that killed runs of `add_aiter` left; whoever calls it holds the lock that they held."""
    for path in (root / "aiter").glob(f"{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _stage(path: Path, staging: Path, unverified: bool, progress: Progress | None) -> dict[str, Fact]:
    """Reads the source; writes what the manifest knows, and only if `unverified` the rest too."""
    found, expected = dict[str, Fact](), manifest()
    with contextlib.closing(read_source(path, is_wanted)) as files:
        for name, data in files:
            found[name] = Fact.of(data)
            if unverified or expected.get(name) == found[name]:
                with explained(staging):
                    target = staging / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
            if progress is not None:
                progress(len(found), len(expected))
    return found


def _identity(path: Path, found: Mapping[str, Fact], unverified: bool) -> str:
    expected = manifest()
    wrong = sorted(name for name, fact in expected.items() if found.get(name, fact) != fact)
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if LANDMARK not in found or len(missing) > len(expected) // 2:
        raise SourceError(f"{path} holds {len(found)} of AITER's {len(expected)} files; it is not AITER, or much of it is gone")
    if not (wrong or missing or extra):
        return AITER_COMMIT
    if not unverified:
        raise VerificationError(_difference(path, wrong, missing, extra))
    return UNVERIFIED + digest(canonical({name: list(fact) for name, fact in found.items()}))[:32]


def _difference(path: Path, wrong: list[str], missing: list[str], extra: list[str]) -> str:
    parts = [
        f"{len(names)} {what} (first: {names[0]})"
        for what, names in (("changed", wrong), ("missing", missing), ("not part of it", extra))
        if names
    ]
    return (
        f"{path} is not AITER at commit {AITER_COMMIT}: {', '.join(parts)}. Check out that commit, or pass "
        "--unverified to use it as it is"
    )


def _put_in_place(staging: Path, target: Path) -> None:
    """An existing folder of this identity holds the same files unless they were altered: each is replaced, none is ever missing."""
    if not os.path.lexists(target):
        staging.rename(target)
        return
    if target.is_symlink() or not target.is_dir():
        raise CacheError(f"kernel cache {target}: something else is in its place; remove it")
    for file in sorted(staging.rglob("*")):
        if file.is_file():
            place = target / file.relative_to(staging)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, place)
