"""Reads a tar archive as GNU tar, bsdtar, Python and `git archive` write them, from an author who is not trusted.

Not with `tarfile`: it takes a header's long name or extended attributes into memory whatever their length, follows negative sizes
backwards and reads attributes in quadratic time in Pythons that we support (CVE-2024-6232, CVE-2025-8194), and it takes an archive
that is cut off between two files for a whole one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from jax_aiter.kernels.store.limits import Total, check_size
from jax_aiter.kernels.store.names import Layout, Once, SourceError, Wanted
from jax_aiter.kernels.store.stream import Stream, open_stream

BLOCK = 512
#: bytes of the header records before one member: a long name, and extended attributes, which we do not want but must pass.
MAX_RECORD = 1 << 20
REGULAR, FOLDER = (b"0", b"\0", b"7"), b"5"


@dataclasses.dataclass(frozen=True)
class Member:
    name: str
    size: int  # bytes that follow in the archive
    kind: bytes  # the type flag; b"S" for a file with holes, however that is written


def read_tar(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """The wanted files, in the archive's order. Two passes: AITER's top folder shows in the first."""
    total = Total(path)
    with open_stream(path) as stream:
        names = []
        for member in _members(stream, path):
            total.entry()
            if member.kind in REGULAR:
                names.append(member.name)
            _pass(stream, member)
        stream.drain()
        layout = Layout.of(names)
    if layout is None:
        return
    once = Once(path)
    with open_stream(path) as stream:
        for member in _members(stream, path):
            name = layout.name(member.name)
            if name is None or not wanted(name) or member.kind == FOLDER:
                _pass(stream, member)
                continue
            once(name)
            if member.kind not in REGULAR:
                raise SourceError(f"{path}: {name} is a link, a device or a file with holes; only plain files are read")
            check_size(path, name, member.size)
            data = stream.read(member.size)
            stream.skip(-member.size % BLOCK)
            total.taken(data)
            yield name, data


def _pass(stream: Stream, member: Member) -> None:
    stream.skip(member.size + -member.size % BLOCK)


def is_tar(start: bytes) -> bool:
    """Whether a file (unpacked) that begins so is a tar archive; an empty one is."""
    return len(start) == BLOCK and (start == bytes(BLOCK) or _checksum_fits(start))


def _members(stream: Stream, path: Path) -> Iterator[Member]:
    """Each member's header; whoever asks for the next one has read or skipped the file."""
    long_name: str | None = None
    attributes: dict[str, str] = {}
    while True:
        header = stream.read(BLOCK)
        if header == bytes(BLOCK):
            return  # every program ends an archive so: what is cut off has no such block
        if not _checksum_fits(header):
            raise SourceError(f"{path} is damaged: the checksum of a header does not fit")
        kind, size = header[156:157], _number(header[124:136], path)
        if kind in (b"L", b"K", b"x", b"g", b"X"):
            if size > MAX_RECORD:
                raise SourceError(f"{path}: a header record of {size} bytes; AITER's have at most a few hundred")
            record = stream.read(size)
            stream.skip(-size % BLOCK)
            if kind == b"L":
                long_name = _text(record)
            elif kind == b"x":
                attributes = _attributes(record, path)
            continue
        name = long_name if long_name is not None else _name(header)
        if kind == b"S":
            more = header[482]
            while more:  # its map of holes goes on in the next block
                more = stream.read(BLOCK)[504]
        if any(key.startswith("GNU.sparse.") for key in attributes):
            kind = b"S"
        if kind in (b"1", b"2", b"3", b"4", FOLDER, b"6"):
            size = 0  # some programs write the size of what a link leads to
        elif "size" in attributes:
            size = _decimal(attributes["size"], path)
        yield Member(attributes.get("path", name), size, kind)
        long_name, attributes = None, {}


def _checksum_fits(header: bytes) -> bool:
    try:
        wanted = int(header[148:156].split(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return False
    total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    # Some old programs added the bytes up as signed numbers.
    return wanted == total or wanted == total - 256 * sum(byte > 127 for byte in header[:148] + header[156:])


def _number(field: bytes, path: Path) -> int:
    """A size: octal digits, or for large ones a binary number after a set bit."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise SourceError(f"{path} is damaged: a header gives {digits!r} as a size")
    return int(digits or b"0", 8)


def _decimal(text: str, path: Path) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise SourceError(f"{path} is damaged: a header gives {text[:40]!r} as a size")
    return int(text)


def _name(header: bytes) -> str:
    name, prefix = _text(header[:100]), ""
    if header[257:263] == b"ustar\0":  # GNU tar's own form keeps other things there
        prefix = _text(header[345:500])
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _attributes(record: bytes, path: Path) -> dict[str, str]:
    """The ``length key=value`` lines of a pax header."""
    found, position = {}, 0
    while position < len(record) and record[position]:
        space = record.find(b" ", position, position + 20)
        digits = record[position:space] if space > 0 else b""
        length = int(digits) if digits.isdigit() else 0
        line, position = record[space + 1 : position + length], position + length
        key, equals, value = line.partition(b"=")
        if not equals or not value.endswith(b"\n") or position > len(record):
            raise SourceError(f"{path} is damaged: the attributes of a file cannot be read")
        found[key.decode("utf-8", "surrogateescape")] = value[:-1].decode("utf-8", "surrogateescape")
    return found
