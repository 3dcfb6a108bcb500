"""Reads AITER's files from wherever the user has them: a checkout, a git directory, a tar or zip archive.

Whoever made the source is not trusted. Nothing in it is run or obeyed; what is opened are plain files of wanted names, each
bounded, and every way in which it can be broken is one SourceError.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Generator, Iterator
from pathlib import Path

from jax_aiter.kernels.known import AITER_COMMIT
from jax_aiter.kernels.manifest import LANDMARK
from jax_aiter.kernels.store.folder import read_folder
from jax_aiter.kernels.store.git import git_directory, read_git
from jax_aiter.kernels.store.names import SourceError, Wanted
from jax_aiter.kernels.store.stream import MAGIC, open_stream
from jax_aiter.kernels.store.tar import BLOCK, is_tar, read_tar
from jax_aiter.kernels.store.zip import read_zip

NEITHER = "is neither a directory nor a tar or zip archive"


def read_source(path: Path, wanted: Wanted) -> Generator[tuple[str, bytes]]:
    """The files under `path` whose name (relative to AITER's top folder) is `wanted`, as (name, contents), each name once."""
    try:
        found = False
        for name, data in _reader(path, wanted):
            found = True
            yield name, data
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    if not found:
        raise SourceError(f"{path} holds no AITER: there is no {LANDMARK} in it")


def _reader(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist") from None
    except ValueError as error:  # a NUL in it
        raise SourceError(f"{path} is not a path: {error}") from None
    if kind == stat.S_IFDIR:
        return _directory(path, wanted)
    if kind != stat.S_IFREG:
        raise SourceError(f"{path} {NEITHER}")
    return _archive(path)(path, wanted)


def _directory(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    if os.path.lexists(path / LANDMARK):
        return read_folder(path, wanted)
    git = git_directory(path)
    if git is None:
        raise SourceError(f"{path} holds no AITER: neither {LANDMARK} nor a git directory was found in it")
    return read_git(git, AITER_COMMIT, wanted)


def _archive(path: Path):
    with path.open("rb") as file:
        start = file.read(BLOCK)
    if start.startswith((b"PK\3\4", b"PK\5\6")):
        return read_zip
    if start.startswith(tuple(MAGIC)):
        with open_stream(path) as stream:
            start = stream.read(BLOCK)
    if is_tar(start):
        return read_tar
    if zipfile.is_zipfile(path):  # one that something was put in front of
        return read_zip
    raise SourceError(f"{path} {NEITHER}")
