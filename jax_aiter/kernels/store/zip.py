"""Reads a zip archive from an author who is not trusted: members that are not wanted are never opened."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jax_aiter.kernels.store.limits import FILE, HEADERS, Total, check_size
from jax_aiter.kernels.store.names import Layout, Once, SourceError, Wanted

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1


class _Bounded:
    """The archive's file as `zipfile` sees it: its directory is taken at one go, whatever size the archive gives for it."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > HEADERS:
            raise SourceError(f"{self._path}: a directory of {size} bytes; AITER's have a hundredth of the {HEADERS} allowed")
        return self._file.read(size if size >= 0 else HEADERS)


def read_zip(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """The wanted files, in the archive's order. Each is read once, never more of it than a file of AITER may have."""
    total, once = Total(path), Once(path)
    with path.open("rb") as file, _opened(file, path) as archive:
        members = archive.infolist()
        for _ in members:
            total.entry()
        layout = Layout.of(member.filename for member in members)
        if layout is None:
            return
        for member in members:
            # zipfile cuts a name at a NUL: what was written is compared, not what is left of it.
            name = layout.name(member.orig_filename)
            if name is None or not wanted(name):
                continue
            once(name)
            _check(path, name, member)
            data = _contents(archive, member, path, name)
            total.taken(data)
            yield name, data


def _opened(file: IO[bytes], path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(_Bounded(file, path))  # type: ignore[arg-type]
    except SourceError:
        raise
    except Exception as error:  # zipfile meets damage with a dozen of Python's own errors
        raise SourceError(f"{path} is a damaged zip archive: {error or type(error).__name__}") from error


def _check(path: Path, name: str, member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise SourceError(f"{path}: {name} is a link or a device; only plain files are read")
    if member.flag_bits & ENCRYPTED:
        raise SourceError(f"{path}: {name} is encrypted")
    if member.compress_type not in METHODS:
        raise SourceError(f"{path}: {name} is compressed by method {member.compress_type}; stored and deflated files are read")
    check_size(path, name, member.file_size)


def _contents(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, name: str) -> bytes:
    try:
        with archive.open(member) as file:
            data = file.read(FILE + 1)
            rest = file.read(1)  # at the end of the file its checksum is compared
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{path}: {name} is damaged: {error or type(error).__name__}") from error
    if len(data) != member.file_size or rest:
        raise SourceError(f"{path}: {name} is damaged: the archive says {member.file_size} bytes and holds others")
    return data
