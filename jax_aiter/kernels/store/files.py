"""The one way to AITER's files: whoever needs a table, a code object or a Python file gets bytes that were hashed once read.

A copy in the cache was compared when it was added, but may have been altered since; a package may be of any release, or patched. So
nothing is taken from a file's name, its date or an earlier look at it: its bytes are read once, compared, and those very bytes are
used.
"""

from __future__ import annotations

import errno
import fnmatch
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import CacheError, canonical, digest, load_entry
from jax_aiter.kernels.disk import read_plain
from jax_aiter.kernels.known import AITER_COMMIT, file_hash, is_wanted, lookup
from jax_aiter.kernels.manifest import Fact, manifest
from jax_aiter.kernels.store.limits import FILE
from jax_aiter.kernels.store.location import ADD_AGAIN, AS_IT_IS, BY_CONTENT, Location, listing
from jax_aiter.kernels.store.names import is_plain

OPT_IN = "set JAX_AITER_UNVERIFIED=1 to take it as it is"
#: where AITER's wanted files are.
FOLDERS = ("aiter/configs", "aiter/ops/triton", "aiter/utility/triton", "hsa/gfx942", "hsa/gfx950")


class FileError(KernelBuildError):
    """A file of AITER is missing, cannot be read, or is not what it should be; the message names it and the remedy."""


class UnknownError(FileError):
    """A file whose content no known release of AITER has."""


def is_known(name: str, hash: str) -> bool:
    """Whether a release of AITER, or its history, has a file of that name and content."""
    found = lookup(hash)
    return found is not None and name in found.names


def facts(where: Location) -> Mapping[str, Fact] | None:
    """What each file at `where` must be; None where that is told by its content alone."""
    if where.identity in (BY_CONTENT, AS_IT_IS):
        return None
    if where.identity == AITER_COMMIT:
        return manifest()
    try:
        return _recorded(where.path.parent.parent, where.identity)
    except CacheError as error:
        raise FileError(str(error)) from error


@functools.lru_cache(maxsize=8)
def _recorded(root: Path, identity: str) -> Mapping[str, Fact]:
    """What the files of a copy were when they were added; the identity ends with the hash of that."""
    path = listing(root, identity)
    stored = load_entry(path)
    if stored is None or digest(canonical(stored))[:32] != identity.rpartition("-")[2]:
        raise FileError(f"the list of AITER's files, {path}, is missing or altered; {ADD_AGAIN}")
    return {name: Fact(*fact) for name, fact in stored.items()}


def read(where: Location, name: str) -> bytes:
    """The contents of a file (named from AITER's top folder), compared with what they should be. FileError says what is wrong."""
    known = facts(where)
    if not is_plain(name) or not (is_wanted(name) if known is None else name in known):
        raise FileError(f"AITER has no file {name!r} that is known")
    fact = None if known is None else known[name]
    remedy = ADD_AGAIN if where.source == "cache" else "install AITER again"
    try:
        data = read_plain(where.place(name), FILE if fact is None else fact.size)
    except OSError as error:
        what = "is altered" if error.errno == errno.EFBIG else "cannot be read"
        raise FileError(f"AITER's file {name} in {where.path} {what}: {error.strerror}; {remedy}") from error
    if fact is not None and Fact.of(data) != fact:
        raise FileError(f"AITER's file {name} in {where.path} is altered: it has not the hash that it is trusted by; {ADD_AGAIN}")
    if where.identity == BY_CONTENT and not is_known(name, hash := file_hash(data)):
        raise UnknownError(f"AITER's file {name} in {where.path} is not known: no release has one of its hash, {hash}; {OPT_IN}")
    return data


def names(where: Location) -> list[str]:
    """The files at `where`, in order.

    Where it is known what should be there, that is what counts: a file that is missing is listed, one that was put there is not.
    """
    known = facts(where)
    return sorted(known if known is not None else _present(where))


def matching(where: Location, pattern: str) -> list[str]:
    """The files at `where` that fit a pattern, whose stars do not reach beyond a slash, in order.

    Of files that are trusted by content those that are not known are left out: `survey` tells which.
    """
    depth = pattern.count("/")
    found = [name for name in names(where) if name.count("/") == depth and fnmatch.fnmatchcase(name, pattern)]
    return found if where.identity != BY_CONTENT else [name for name in found if _reads(where, name)]


def _reads(where: Location, name: str) -> bool:
    try:
        read(where, name)
    except UnknownError:
        return False
    return True


@functools.lru_cache(maxsize=8)
def _present(where: Location) -> tuple[str, ...]:
    found = ((folder, where.place(folder)) for folder in FOLDERS)
    paths = (f"{name}/{path.relative_to(folder).as_posix()}" for name, folder in found for path in folder.rglob("*"))
    return tuple(name for name in paths if is_wanted(name) and is_plain(name))


def has(where: Location, name: str) -> bool:
    """Whether there should be such a file: to read one that was removed is an error, not the same as one that never was."""
    known = facts(where)
    return name in known if known is not None else is_plain(name) and os.path.lexists(where.place(name))


def copy(where: Location, folder: Path, chosen: Iterable[str], read: Callable[[Location, str], bytes] = read) -> list[str]:
    """Put compared copies of the files into an empty folder of this process alone, for what must read them by their paths.

    read: what compares a file as it reads it; of C++ sources, `sources.read`.
    Returns the names of those that were left out because no release has them. FileError names a file that is altered or gone;
    OSError if the copies cannot be written.
    """
    left_out = []
    for name in chosen:
        try:
            data = read(where, name)
        except UnknownError:
            left_out.append(name)
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return left_out


#: what plans of Triton kernels are made from.
TRITON = ("aiter/ops/triton/", "aiter/utility/triton/")


def triton_names(where: Location) -> list[str]:
    return [name for name in names(where) if name.startswith(TRITON)]


@functools.lru_cache(maxsize=8)
def triton_identity(where: Location) -> str:
    """Under what plans of Triton kernels are kept: it differs where the files do that they are recorded from."""
    if where.identity not in (BY_CONTENT, AS_IT_IS):
        return where.identity
    found = {}
    for name in triton_names(where):
        try:
            found[name] = file_hash(read(where, name))
        except UnknownError:
            continue
    return f"content-{digest(canonical(found))}"
