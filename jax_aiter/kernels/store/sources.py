"""AITER's C++ sources: read as its other files are, hashed once read; copied to where a compiler finds them by their paths.

They are trusted by content wherever they lie, in the cache's copies too: what was unverified there is taken as it is.
"""

from __future__ import annotations

import functools

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import canonical, digest
from jax_aiter.kernels.disk import read_plain
from jax_aiter.kernels.known import file_hash
from jax_aiter.kernels.known_sources import is_known_source, is_source
from jax_aiter.kernels.store.files import OPT_IN, FileError, UnknownError
from jax_aiter.kernels.store.limits import FILE
from jax_aiter.kernels.store.location import AS_IT_IS, UNVERIFIED, Location
from jax_aiter.kernels.store.names import is_plain


def read(where: Location, name: str) -> bytes:
    """The contents of a source (named from AITER's top folder). FileError says what is wrong; UnknownError: no release has it."""
    if not is_plain(name) or not is_source(name):
        raise FileError(f"AITER has no source {name!r} that is known")
    try:
        data = read_plain(where.place(name), FILE)
    except OSError as error:
        raise FileError(f"AITER's source {name} in {where.path} cannot be read: {error.strerror}") from error
    if not _as_it_is(where) and not is_known_source(name, hash := file_hash(data)):
        raise UnknownError(f"AITER's source {name} in {where.path} is not known: no release has one of its hash, {hash}; {OPT_IN}")
    return data


def _as_it_is(where: Location) -> bool:
    return where.identity == AS_IT_IS or where.identity.startswith(UNVERIFIED)


def has(where: Location, name: str) -> bool:
    """Whether there is such a file."""
    return is_plain(name) and where.place(name).is_file()


@functools.lru_cache(maxsize=64)
def below(where: Location, folder: str) -> tuple[str, ...]:
    """The sources below a folder, in order; () if it is not there."""
    if not is_plain(folder):
        return ()
    top = where.place(folder)
    found = (f"{folder}/{path.relative_to(top).as_posix()}" for path in top.rglob("*") if path.is_file())
    return tuple(sorted(name for name in found if is_plain(name) and is_source(name)))


def together(where: Location, folders: tuple[str, ...]) -> tuple[str, ...]:
    """The sources below any of these folders, in order, each once."""
    return tuple(sorted({name for folder in folders for name in below(where, folder)}))


@functools.lru_cache(maxsize=64)
def identity(where: Location, names: tuple[str, ...]) -> str:
    """What the sources that are known there are: it differs where one of them does."""
    found = {}
    for name in names:
        try:
            found[name] = file_hash(read(where, name))
        except UnknownError:
            continue
    return digest(canonical(found))[:32]


def lacking(where: Location, name: str) -> str | None:
    """The rule by which what is compiled from this source cannot be; None if it is there and known."""
    if not has(where, name):
        beside = "" if where.place("csrc").is_dir() else f": there are no C++ sources in {where.path}"
        return f"this release of AITER has no {name}{beside}"
    try:
        read(where, name)
    except KernelBuildError as error:
        return str(error)
    return None
