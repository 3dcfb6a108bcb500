"""Git's object database, read only: loose objects, packs (version 2 of index and pack), and the databases it borrows from."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from jax_aiter.kernels.disk import open_plain, read_plain
from jax_aiter.kernels.store.git_delta import applied
from jax_aiter.kernels.store.limits import FILE, UNPACKED
from jax_aiter.kernels.store.names import SourceError

KINDS = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
BY_OFFSET, BY_ID = 6, 7
#: bytes of an object, and of what it is a difference to.
LARGEST = 4 * FILE
REMEMBERED = 64 << 20
#: differences to differences; git makes at most 4,095.
DEEPEST = 5000
#: other databases that one may borrow from, all together.
ALTERNATES = 16
CHUNK = 1 << 16


class Objects:
    """`get` gives objects by their ids and has compared them with those."""

    def __init__(self, folder: Path) -> None:
        self._path = folder
        self._left = UNPACKED
        self._folders = _with_alternates(folder)
        found = [path for each in self._folders for path in sorted((each / "pack").glob("*.idx"))]
        self._packs = [_Pack(path, self.spend) for path in found if path.with_suffix(".pack").exists()]

    def get(self, name: bytes, kind: bytes) -> bytes | None:
        """The object with this id, which must be of that kind; None if it is not there. SourceError if it is damaged."""
        found = self.find(name)
        if found is None:
            return None
        what, data = found
        if what != kind or hashlib.sha1(b"%s %d\0" % (what, len(data)) + data, usedforsecurity=False).digest() != name:
            raise SourceError(f"{self._path}: object {name.hex()} is damaged: its contents are not those of its id")
        return data

    def find(self, name: bytes) -> tuple[bytes, bytes] | None:
        """(kind, contents) as stored under this id."""
        try:
            for pack in self._packs:
                offset = pack.offset(name)
                if offset is not None:
                    return pack.read(offset)
            return self._loose(name)
        except (zlib.error, struct.error, ValueError, IndexError, KeyError) as error:
            raise SourceError(f"{self._path}: object {name.hex()} is damaged: {error}") from error

    def _loose(self, name: bytes) -> tuple[bytes, bytes] | None:
        text = name.hex()
        for folder in self._folders:
            try:
                packed = read_plain(folder / text[:2] / text[2:], LARGEST)
            except FileNotFoundError:
                continue
            decoder = zlib.decompressobj()
            start = decoder.decompress(packed, 64)
            header, _, rest = start.partition(b"\0")
            kind, digits = header.split(b" ")
            size = int(digits)
            self.spend(size)
            data = rest + decoder.decompress(decoder.unconsumed_tail, max(1, size + 1 - len(rest)))
            if len(data) != size or not decoder.eof:
                raise ValueError("its length is not what its header says")
            return kind, data
        return None

    def spend(self, size: int) -> None:
        """Counts what is unpacked, which a chain of differences may make far more than what is asked for."""
        self._left -= size
        if not 0 <= size <= LARGEST or self._left < 0:
            raise ValueError(f"it unpacks to {size} bytes, too many")


def _with_alternates(folder: Path) -> list[Path]:
    found, waiting = list[Path](), [folder]
    while waiting and len(found) < ALTERNATES:
        one = waiting.pop(0)
        if one in found or not one.is_dir():
            continue
        found.append(one)
        listed = one / "info" / "alternates"
        if os.path.lexists(listed):
            lines = os.fsdecode(read_plain(listed, CHUNK)).splitlines()
            waiting += [one / line for line in lines if line and not line.startswith(("#", '"'))]
    return found


class _Pack:
    """One pack, found by its index. `spend` is told the size of whatever is unpacked before it is."""

    def __init__(self, index: Path, spend: Callable[[int], None]) -> None:
        self._spend = spend
        self._index, self._pack = _File(index), _File(index.with_suffix(".pack"))
        start = self._index.read(0, 8 + 1024, short=True)
        if len(start) != 8 + 1024 or start[:8] != b"\xfftOc\0\0\0\2":
            raise SourceError(f"{index} is damaged, or a pack index of another version than 2; `git repack -ad` writes it anew")
        self._fan = struct.unpack(">256I", start[8:])
        self._count = self._fan[255]
        self._remembered: OrderedDict[int, tuple[bytes, bytes]] = OrderedDict()
        self._bytes = 0

    def offset(self, name: bytes) -> int | None:
        """Where the object with this id lies in the pack."""
        low, high, names = self._fan[name[0] - 1] if name[0] else 0, self._fan[name[0]], 8 + 1024
        while low < high:
            middle = (low + high) // 2
            here = self._index.read(names + 20 * middle, 20)
            if here == name:
                return self._offset(middle)
            low, high = (middle + 1, high) if here < name else (low, middle)
        return None

    def _offset(self, number: int) -> int:
        table = 8 + 1024 + 24 * self._count
        (offset,) = struct.unpack(">I", self._index.read(table + 4 * number, 4))
        if offset & 1 << 31:
            (offset,) = struct.unpack(">Q", self._index.read(table + 4 * self._count + 8 * (offset & ~(1 << 31)), 8))
        return offset

    def read(self, offset: int) -> tuple[bytes, bytes]:
        """(kind, contents) of the object there, its differences applied."""
        waiting: dict[int, bytes] = {}  # differences by place, the outermost first
        while True:
            known = self._remembered.get(offset)
            if known is not None:
                break
            kind, size, base, start = self._header(offset)
            if kind not in (BY_OFFSET, BY_ID):
                known = KINDS[kind], self._unpacked(start, size)
                self._remember(offset, known)
                break
            waiting[offset] = self._unpacked(start, size)
            found = base if isinstance(base, int) else self.offset(base or b"")
            if found is None or found <= 0 or found in waiting or len(waiting) > DEEPEST:
                raise ValueError("a difference to nothing, or to itself")
            offset = found
        what, data = known
        for there, difference in reversed(waiting.items()):
            data = applied(difference, data, self._spend)
            self._remember(there, (what, data))
        return what, data

    def _header(self, offset: int) -> tuple[int, int, int | bytes | None, int]:
        """(kind, size, base, where the compressed data begin)."""
        head, at = self._pack.read(offset, 64, short=True), 1
        kind, size, shift = head[0] >> 4 & 7, head[0] & 15, 4
        while head[at - 1] & 128:
            size |= (head[at] & 127) << shift
            at, shift = at + 1, shift + 7
        if kind == BY_ID:
            return kind, size, head[at : at + 20], offset + at + 20
        if kind != BY_OFFSET:
            return kind, size, None, offset + at
        back = head[at] & 127
        while head[at] & 128:
            at += 1
            back = (back + 1) << 7 | head[at] & 127
        return kind, size, offset - back, offset + at + 1

    def _unpacked(self, start: int, size: int) -> bytes:
        self._spend(size)
        decoder, parts, missing = zlib.decompressobj(), [], size
        while not decoder.eof and missing >= 0:
            packed = decoder.unconsumed_tail
            if not packed:
                packed = self._pack.read(start, min(CHUNK, size + 64), short=True)
                start += len(packed)
            if not packed:
                break
            parts.append(decoder.decompress(packed, missing + 1))
            missing -= len(parts[-1])
        if missing or not decoder.eof:
            raise ValueError("its length is not what the pack says")
        return b"".join(parts)

    def _remember(self, offset: int, found: tuple[bytes, bytes]) -> None:
        self._remembered[offset] = found
        self._bytes += len(found[1])
        while self._bytes > REMEMBERED:
            self._bytes -= len(self._remembered.popitem(last=False)[1][1])


class _File:
    """Parts of a plain file, read as they are asked for (a mapped file that somebody shortens would end the process)."""

    def __init__(self, path: Path) -> None:
        self._path, self._handle = path, open_plain(path)

    def read(self, offset: int, size: int, *, short: bool = False) -> bytes:
        data = os.pread(self._handle, size, offset)
        if len(data) < size and not short:
            raise ValueError(f"{self._path} is cut off")
        return data

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)
