"""The one way to AITER's files: whoever needs a table, a code object or a Python file gets bytes that were hashed once read.

A copy in the cache was compared when it was added, but may have been altered since. So nothing is taken from a file's name, its
date or an earlier look at it: its bytes are read once, compared, and those very bytes are used.
"""

from __future__ import annotations

import errno
import fnmatch
import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import CacheError, canonical, digest, load_entry
from jax_aiter.kernels.disk import read_plain
from jax_aiter.kernels.known import AITER_COMMIT, is_wanted
from jax_aiter.kernels.manifest import Fact, manifest
from jax_aiter.kernels.store.limits import FILE
from jax_aiter.kernels.store.location import ADD_AGAIN, UNVERIFIED, Location, listing
from jax_aiter.kernels.store.names import is_plain


class FileError(KernelBuildError):
    """A file of AITER is missing, cannot be read, or is not what it should be; the message names it and the remedy."""


def facts(where: Location) -> Mapping[str, Fact] | None:
    """What each file at `where` must be; None where nothing is known of them (a package that was installed)."""
    if where.identity == AITER_COMMIT:
        return manifest()
    if where.identity.startswith(UNVERIFIED):
        return _recorded(where.path.parent.parent, where.identity)
    return None


@functools.lru_cache(maxsize=8)
def _recorded(root: Path, identity: str) -> Mapping[str, Fact]:
    """What the files of an unverified copy were when they were added; the identity is the hash of that."""
    path = listing(root, identity)
    stored = load_entry(path)
    if stored is None or UNVERIFIED + digest(canonical(stored))[:32] != identity:
        raise FileError(f"the list of AITER's files, {path}, is missing or altered; {ADD_AGAIN}")
    return {name: Fact(*fact) for name, fact in stored.items()}


def read(where: Location, name: str) -> bytes:
    """The contents of a file (named from AITER's top folder), compared with what they should be. FileError says what is wrong."""
    known = _facts(where)
    if not is_plain(name) or (known is not None and name not in known):
        raise FileError(f"AITER has no file {name!r} that is known")
    fact = known[name] if known is not None else None
    try:
        data = read_plain(where.path / name, fact.size if fact is not None else FILE)
    except OSError as error:
        what = "is altered" if error.errno == errno.EFBIG else "cannot be read"
        raise FileError(f"AITER's file {name} in {where.path} {what}: {error.strerror}; {ADD_AGAIN}") from error
    if fact is not None and Fact.of(data) != fact:
        raise FileError(f"AITER's file {name} in {where.path} is altered: it has not the hash that it is trusted by; {ADD_AGAIN}")
    return data


def _facts(where: Location) -> Mapping[str, Fact] | None:
    try:
        return facts(where)
    except CacheError as error:
        raise FileError(str(error)) from error


def names(where: Location) -> list[str]:
    """The files at `where`, in order.

    Where it is known what should be there, that is what counts: a file that is missing is listed, one that was put there is not.
    """
    known = _facts(where)
    return sorted(known if known is not None else _present(where.path))


def matching(where: Location, pattern: str) -> list[str]:
    """The files at `where` that fit a pattern, whose stars do not reach beyond a slash, in order."""
    depth = pattern.count("/")
    return [name for name in names(where) if name.count("/") == depth and fnmatch.fnmatchcase(name, pattern)]


@functools.lru_cache(maxsize=8)
def _present(top: Path) -> tuple[str, ...]:
    found = (path.relative_to(top).as_posix() for folder in ("aiter", "hsa") for path in (top / folder).rglob("*"))
    return tuple(name for name in found if is_wanted(name) and is_plain(name))


def has(where: Location, name: str) -> bool:
    """Whether there should be such a file: to read one that was removed is an error, not the same as one that never was."""
    known = _facts(where)
    return name in known if known is not None else is_plain(name) and os.path.lexists(where.path / name)


def copy(where: Location, folder: Path, chosen: Iterable[str]) -> None:
    """Put compared copies of the files into an empty folder of this process alone, for what must read them by their paths.

    FileError names the file that is wrong; OSError if the copies cannot be written.
    """
    for name in chosen:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read(where, name))


def wrong(where: Location) -> list[str]:
    """Names of the files that are missing at `where`, were altered there, or are not the pinned commit's."""
    bad, expected = [], manifest()
    for name in sorted(expected.keys() | (_facts(where) or {}).keys()):
        try:
            same = Fact.of(read(where, name)) == expected.get(name)
        except FileError:
            same = False
        bad += [] if same else [name]
    return bad
