"""What is read of ELF files that our own compiler wrote: names that a shared library has and wants, a kernel's argument layout."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from typing import Any

DYNSYM, NOTE = 11, 7
UNDEFINED, WEAK = 0, 2
METADATA = 32  # the note of AMD's code objects: a MessagePack map


@dataclasses.dataclass(frozen=True)
class Argument:
    """Where an argument lies in the block that a kernel reads. kind: as the compiler calls it, "by_value" or "global_buffer"."""

    offset: int
    size: int
    kind: str


@dataclasses.dataclass(frozen=True)
class Names:
    """defined: what a library has for others. undefined: what it must be given."""

    defined: tuple[str, ...]
    undefined: tuple[str, ...]


def names(data: bytes) -> Names:
    """The dynamic symbols of a shared library of x86-64; ValueError if it is none."""
    defined, undefined = [], []
    sections = list(_sections(data))
    for _, kind, offset, size, link in sections:
        if kind == DYNSYM:
            strings = sections[link][2]
            for place in range(offset + 24, offset + size, 24):
                name, info, _, index, _, _ = struct.unpack_from("<IBBHQQ", data, place)
                text = _text(data, strings + name)
                if index != UNDEFINED:
                    defined.append(text)
                elif info >> 4 != WEAK:
                    undefined.append(text)
    return Names(tuple(defined), tuple(undefined))


def arguments(code: bytes, symbol: str) -> tuple[Argument, ...]:
    """The arguments that whoever launches a kernel gives it, in order; those that the driver adds are left out."""
    for _, kind, offset, size, _ in _sections(code):
        place = offset
        while kind == NOTE and place < offset + size:
            name_size, length, tag = struct.unpack_from("<III", code, place)
            start = place + 12 + (name_size + 3) // 4 * 4
            if tag == METADATA:
                for kernel in _unpacked(code, start)[0]["amdhsa.kernels"]:
                    if kernel[".name"] == symbol:
                        found = (Argument(a[".offset"], a[".size"], a[".value_kind"]) for a in kernel.get(".args", ()))
                        return tuple(a for a in found if not a.kind.startswith("hidden_"))
            place = start + (length + 3) // 4 * 4
    raise ValueError(f"the code object has no kernel {symbol}")


def _sections(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """(name, type, offset, size, link) of each section."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no little-endian ELF file of 64 bits")
    (start,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    for i in range(count):
        name, kind, _, _, offset, length, link = struct.unpack_from("<IIQQQQI", data, start + i * size)
        yield name, kind, offset, length, link


def _text(data: bytes, place: int) -> str:
    return data[place : data.index(b"\0", place)].decode()


#: MessagePack's forms that have a size or a number behind their first byte: struct code, and what they hold.
_SIZED = {
    0xC4: ("B", "bytes"), 0xC5: (">H", "bytes"), 0xC6: (">I", "bytes"),
    0xD9: ("B", "text"), 0xDA: (">H", "text"), 0xDB: (">I", "text"),
    0xDC: (">H", "list"), 0xDD: (">I", "list"), 0xDE: (">H", "map"), 0xDF: (">I", "map"),
    0xCA: (">f", "number"), 0xCB: (">d", "number"),
    0xCC: ("B", "number"), 0xCD: (">H", "number"), 0xCE: (">I", "number"), 0xCF: (">Q", "number"),
    0xD0: ("b", "number"), 0xD1: (">h", "number"), 0xD2: (">i", "number"), 0xD3: (">q", "number"),
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def _unpacked(data: bytes, place: int) -> tuple[Any, int]:
    """A MessagePack value and where the next one begins."""
    first = data[place]
    place += 1
    if first < 0x80:
        return first, place
    if first >= 0xE0:
        return first - 0x100, place
    if first in _CONSTANTS:
        return _CONSTANTS[first], place
    if first < 0xC0:
        kind, count = ("map", first & 15) if first < 0x90 else ("list", first & 15) if first < 0xA0 else ("text", first & 31)
    else:
        code, kind = _SIZED[first]
        (count,) = struct.unpack_from(code, data, place)
        place += struct.calcsize(code)
    if kind == "number":
        return count, place
    if kind in ("text", "bytes"):
        raw = data[place : place + count]
        return (raw.decode() if kind == "text" else raw), place + count
    found = []
    for _ in range(count * (2 if kind == "map" else 1)):
        value, place = _unpacked(data, place)
        found.append(value)
    return (dict(zip(found[::2], found[1::2], strict=True)) if kind == "map" else found), place
