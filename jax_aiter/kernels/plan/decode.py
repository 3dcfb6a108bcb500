"""Bytes to LaunchPlan; `wire` documents the layout. Input that is not a valid plan raises `PlanError`."""

from __future__ import annotations

import zlib

from jax_aiter.kernels import wire
from jax_aiter.kernels.args import KernelArgs, Param, PlanError, PointerSlot, require
from jax_aiter.kernels.plan.launch_plan import LaunchPlan
from jax_aiter.kernels.plan.steps import BUFFER_KINDS, MAX_CODE_BYTES, Address, Buffer, CodeObject, Copy, Fill, Launch, Step


def decode(data: bytes) -> LaunchPlan:
    """The plan that `encode` wrote. Raises `PlanError` for a truncated, corrupt or newer-version encoding."""
    require(len(data) >= wire.HEADER.size, f"encoded plan: {len(data)} bytes, shorter than its header")
    magic, version, zero, checksum = wire.HEADER.unpack_from(data)
    require(magic == wire.MAGIC, f"encoded plan: starts with {magic!r}, expected {wire.MAGIC!r}")
    known = 1 <= version <= wire.VERSION
    require(known, f"encoded plan: version {version}, this library reads versions up to {wire.VERSION}")
    require(zero == 0, "encoded plan: reserved header bytes are not zero")
    body = data[wire.HEADER.size :]
    require(zlib.crc32(body) == checksum, "encoded plan: checksum mismatch, the data is corrupt")
    return _Reader(body, version).plan()


def _inflate(packed: bytes, size: int) -> bytes:
    stream = zlib.decompressobj(wbits=-15)
    try:
        data = stream.decompress(packed, size + 1)  # +1: a longer stream must be seen to be longer
    except zlib.error as e:
        raise PlanError(f"encoded plan: code object does not decompress ({e})") from None
    whole = stream.eof and not stream.unused_data
    require(whole, "encoded plan: code object does not decompress (it is cut off, or something follows it)")
    return data


class _Reader:
    def __init__(self, data: bytes, version: int) -> None:
        self._data, self._at, self._version = data, 0, version
        self._strings: list[str] = []
        self._codes: list[CodeObject] = []

    def plan(self) -> LaunchPlan:
        try:
            self._strings = [self._bytes(self._varint()).decode("ascii") for _ in range(self._varint())]
        except UnicodeDecodeError as e:
            raise PlanError(f"encoded plan: a name is not ASCII ({e})") from None
        require(all(s.isprintable() for s in self._strings), "encoded plan: a name is not printable")
        op, arch = self._string(), self._string()
        self._codes = [self._code() for _ in range(self._varint())]
        buffers = tuple(self._buffer() for _ in range(self._varint()))
        aliases = tuple((self._varint(), self._varint()) for _ in range(self._varint()))
        steps = tuple(self._step() for _ in range(self._varint()))
        require(self._at == len(self._data), f"encoded plan: {len(self._data) - self._at} bytes after its end")
        return LaunchPlan(op, arch, buffers, steps, aliases)

    def _bytes(self, size: int) -> bytes:
        left = len(self._data) - self._at
        require(size <= left, f"encoded plan: {size} bytes wanted at byte {self._at}, {left} left")
        self._at += size
        return self._data[self._at - size : self._at]

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise PlanError(f"encoded plan: integer of more than 63 bits at byte {self._at}")

    def _string(self) -> str:
        return self._strings[self._number(len(self._strings), "string")]

    def _number(self, count: int, what: str) -> int:
        number = self._varint()
        require(number < count, f"encoded plan: {what} {number}, there are {count}")
        return number

    def _code(self) -> CodeObject:
        code_id, size, codec = self._bytes(wire.CODE_ID_BYTES), self._varint(), self._byte()
        payload = self._bytes(self._varint())
        # Before anything is unpacked to that size, or counts it in a machine word.
        require(size <= MAX_CODE_BYTES, f"encoded plan: code object of {size} bytes declared, at most {MAX_CODE_BYTES}")
        require(codec in (wire.STORED, wire.DEFLATE), f"encoded plan: code object codec {codec} is unknown")
        if codec == wire.DEFLATE:
            payload = _inflate(payload, size)
        require(len(payload) == size, f"encoded plan: code object of {len(payload)} bytes, {size} declared")
        code = CodeObject(payload)
        require(bytes.fromhex(code.sha256).startswith(code_id), f"encoded plan: {code!r} does not match its hash")
        return code

    def _buffer(self) -> Buffer:
        kind = self._byte()
        require(kind < len(BUFFER_KINDS), f"encoded plan: buffer kind {kind} is unknown")
        index, nbytes, alignment = self._varint(), self._varint(), 1 << self._byte()
        return Buffer(BUFFER_KINDS[kind], index, nbytes, alignment, self._string())

    def _step(self) -> Step:
        tag = self._byte()
        if tag == wire.LAUNCH:
            return self._launch()
        if tag == wire.FILL:
            buffer, offset, nbytes, width = self._varint(), self._varint(), self._varint(), self._byte()
            return Fill(buffer, offset, nbytes, self._varint(), width)
        if tag == wire.COPY:
            return Copy(*(self._varint() for _ in range(5)))
        if tag == wire.ADDRESS and self._version >= 2:
            return Address(*(self._varint() for _ in range(4)))
        raise PlanError(f"encoded plan: step tag {tag} is unknown")

    def _launch(self) -> Launch:
        code = self._codes[self._number(len(self._codes), "code object")]
        symbol = self._string()
        gx, gy, gz, bx, by, bz, shared = (self._varint() for _ in range(7))
        blob = self._bytes(self._varint())
        params, end = [], 0
        for _ in range(self._varint()):
            offset, size = end + self._varint(), self._varint()
            params.append(Param(offset, size))
            end = offset + size
        pointers = tuple(PointerSlot(self._varint(), self._varint(), self._varint()) for _ in range(self._varint()))
        args = KernelArgs(blob, pointers, tuple(params))
        return Launch(code, symbol, (gx, gy, gz), (bx, by, bz), shared, args)
