"""The bytes of a file that may be compressed, read once from front to back, and no more of them than the file can honestly hold."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jax_aiter.kernels.store.limits import RATIO, UNPACKED
from jax_aiter.kernels.store.names import SourceError

CHUNK = 1 << 16
#: bytes that unpacking may need for itself: `xz -9` needs 65 MiB, a hostile header asks for 4 GiB.
XZ_MEMORY = 256 << 20
MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)


class Stream:
    """`read` and `skip` go forward only; SourceError at the end of the file, at damage, and past the limit."""

    def __init__(self, path: Path, chunks: Iterator[bytes], limit: int) -> None:
        self._path, self._chunks, self._left = path, chunks, limit
        self._chunk, self._at = b"", 0

    def read(self, size: int) -> bytes:
        parts, missing = [], size
        for part in self._parts(size):
            parts.append(part)
            missing -= len(part)
        if missing:
            raise SourceError(f"{self._path} is cut off: it ends within a file or before the end of the archive")
        return b"".join(parts)

    def skip(self, size: int) -> None:
        if sum(map(len, self._parts(size))) != size:
            raise SourceError(f"{self._path} is cut off: it ends within a file or before the end of the archive")

    def drain(self) -> None:
        """Read to the end, where a compressed file's checksum is compared."""
        for _ in self._parts(self._left + 1):
            pass

    def _parts(self, size: int) -> Iterator[bytes]:
        while size:
            if self._at == len(self._chunk):
                self._chunk, self._at = self._next(), 0
                if not self._chunk:
                    return
            part = self._chunk[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            yield part

    def _next(self) -> bytes:
        try:
            chunk = next(self._chunks, b"")
        except DAMAGE as error:
            raise SourceError(f"{self._path} is damaged: {error}") from error
        self._left -= len(chunk)
        if self._left < 0:
            raise SourceError(f"{self._path} grows to more than {RATIO} times its size when it is unpacked; it is not read further")
        return chunk


@contextlib.contextmanager
def open_stream(path: Path) -> Iterator[Stream]:
    with path.open("rb") as file:
        start, packed = file.peek(6)[:6], path.stat().st_size  # type: ignore[attr-defined]
        kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), "")
        limit = min((64 << 20) + RATIO * packed, UNPACKED) if kind else UNPACKED
        yield Stream(path, _chunks(file, kind), limit)


def _chunks(file: BinaryIO, kind: str) -> Iterator[bytes]:
    if kind == "xz":
        yield from _unxz(file)
        return
    opened = gzip.GzipFile(fileobj=file) if kind == "gz" else bz2.BZ2File(file) if kind == "bz2" else file
    while chunk := opened.read(CHUNK):
        yield chunk


def _unxz(file: BinaryIO) -> Iterator[bytes]:
    """As `lzma.open`, which sets no limit to the memory that a header may ask for."""
    packed = file.read(CHUNK)
    while packed:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
        while not decoder.eof:
            if decoder.needs_input and not packed:
                packed = file.read(CHUNK)
                if not packed:
                    raise EOFError("the compressed data end too early")
            chunk = decoder.decompress(packed, CHUNK)
            packed = b""
            if chunk:
                yield chunk
        packed = decoder.unused_data
        while not packed.strip(b"\0"):  # padding between streams, or the end
            packed = file.read(CHUNK)
            if not packed:
                return
        packed = packed.lstrip(b"\0")
