"""Brings AITER's files into the cache: each is looked up by its content before it is written."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from jax_aiter.core.text import one_line
from jax_aiter.kernels.cache import CacheError, cache_root, canonical, digest, explained, locked, write_entry
from jax_aiter.kernels.disk import TEMPORARY
from jax_aiter.kernels.known import AITER_COMMIT, files_of, is_wanted
from jax_aiter.kernels.known_sources import is_known_source, is_source
from jax_aiter.kernels.manifest import LANDMARK, Fact, manifest
from jax_aiter.kernels.store.files import is_known
from jax_aiter.kernels.store.location import KNOWN, UNVERIFIED, Location, entry, in_cache, listing
from jax_aiter.kernels.store.names import SourceError
from jax_aiter.kernels.store.source import read_source
from jax_aiter.kernels.store.survey import Survey, compare

Progress = Callable[[int, int], None]


class VerificationError(ValueError):
    """Files are in no known release, or missing of the one they are nearest to; the message counts them and names the first."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@dataclasses.dataclass(frozen=True)
class Added:
    """location: the copy. survey: what the source was.

    sources, unknown_sources: names of C++ sources that were copied, and of those that no release has and that were left out.
    """

    location: Location
    survey: Survey
    sources: tuple[str, ...] = ()
    unknown_sources: tuple[str, ...] = ()


def add_aiter(
    path: Path,
    *,
    unverified: bool = False,
    known_only: bool = False,
    root: Path | None = None,
    progress: Progress | None = None,
) -> Location:
    """As `add`; where the copy is."""
    return add(path, unverified=unverified, known_only=known_only, root=root, progress=progress).location


def add(
    path: Path,
    *,
    unverified: bool = False,
    known_only: bool = False,
    root: Path | None = None,
    progress: Progress | None = None,
) -> Added:
    """Compare the AITER files at `path` with those of all known releases and copy them into the cache.

    path: a checkout, a git directory (read is the pinned commit, or what HEAD names if that is not there), a package's folder or
        wheel, or a tar or zip archive.
    unverified: take files that no release has as they are; plans made from them are kept apart.
    known_only: leave files out that no release has, and do without those that are missing.
    progress: called with (files done, files expected).
    Raises SourceError (no AITER there, or damaged), VerificationError (files unknown or missing), CacheError.
    """
    root = root or cache_root()
    with locked(root, "aiter"):
        with explained(root / "aiter"):
            (root / "aiter").mkdir(mode=0o700, exist_ok=True)
            sweep_staging(root)
            staging = Path(tempfile.mkdtemp(dir=root / "aiter", prefix=TEMPORARY))
        try:
            found, compiled, unknown = _stage(path, staging, unverified, progress)
            survey = compare({name: fact.hash for name, fact in found.items()}, sum(fact.size for fact in found.values()))
            _check(path, found, survey, unverified, known_only)
            if not unverified:
                found = {name: fact for name, fact in found.items() if name not in survey.unknown}
            taken = tuple(name for name in compiled if unverified or name not in unknown)
            identity = _identity(found, compiled if unverified and unknown else {})
            if identity != AITER_COMMIT:
                write_entry(listing(root, identity), {name: list(fact) for name, fact in found.items()})
            with explained(root):
                _put_in_place(staging, root / "aiter" / identity)
            write_entry(entry(root), {"identity": identity})
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return Added(in_cache(root, identity), survey, taken, () if unverified else unknown)


def sweep_staging(root: Path) -> None:
    """Remove the folders that killed runs of `add_aiter` left; whoever calls it holds the lock that they held."""
    for path in (root / "aiter").glob(f"{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _stage(
    path: Path, staging: Path, unverified: bool, progress: Progress | None
) -> tuple[dict[str, Fact], dict[str, Fact], tuple[str, ...]]:
    """Reads the source; writes what is known, and only if `unverified` the rest too.

    C++ sources, which many places lack, are not among the first: they come second, and the names of those that are unknown third.
    """
    found, expected = dict[str, Fact](), len(manifest())
    compiled, unknown = dict[str, Fact](), list[str]()
    with contextlib.closing(read_source(path, lambda name: is_wanted(name) or is_source(name))) as files:
        for name, data in files:
            fact = Fact.of(data)
            if is_source(name):
                known = is_known_source(name, fact.hash)
                compiled[name] = fact
                unknown += [] if known else [name]
            else:
                known = is_known(name, fact.hash)
                found[name] = fact
            if unverified or known:
                with explained(staging):
                    target = staging / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
            if progress is not None:
                progress(len(found), max(expected, len(found)))
    return found, compiled, tuple(unknown)


def _check(path: Path, found: Mapping[str, Fact], survey: Survey, unverified: bool, known_only: bool) -> None:
    if LANDMARK not in found or survey.release is None:
        raise SourceError(f"{path} holds {len(found)} files with names of AITER's, none known; it is not AITER")
    of_release = files_of(survey.release)
    if len(survey.missing) > len(of_release) // 2 and not known_only:
        raise SourceError(f"{path} holds {len(found)} of AITER's {len(of_release)} files; it is not AITER, or much of it is gone")
    if (survey.unknown or survey.missing) and not (unverified or known_only):
        changed, extra = ([n for n in survey.unknown if (n in of_release) == inside] for inside in (True, False))
        raise VerificationError(_difference(path, survey, changed, extra))


def _difference(path: Path, survey: Survey, changed: list[str], extra: list[str]) -> str:
    hashes = {name: f" of hash {value}" for name, value in survey.unknown.items()}
    parts = [
        f"{len(names)} {what} (first: {names[0]}){hashes.get(names[0], '')}"
        for what, names in (("changed", changed), ("missing", list(survey.missing)), ("not part of it", extra))
        if names
    ]
    release = "commit" if survey.release == AITER_COMMIT else "release"
    return (
        f"{path} is not AITER at {release} {survey.release}, which it is nearest to: {', '.join(parts)}. Check that out as it is, "
        "or pass --known-only to do without these files, or --unverified to use them as they are"
    )


def _identity(found: Mapping[str, Fact], strange: Mapping[str, Fact]) -> str:
    """strange: sources that were taken as they are."""
    if found == manifest() and not strange:
        return AITER_COMMIT
    prefix = KNOWN if not strange and all(is_known(name, fact.hash) for name, fact in found.items()) else UNVERIFIED
    return prefix + digest(canonical({name: list(fact) for name, fact in found.items()}))[:32]


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
