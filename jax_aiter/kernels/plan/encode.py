"""LaunchPlan to bytes; `wire` documents the layout."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable

from jax_aiter.kernels import wire
from jax_aiter.kernels.plan.content import PlanContent
from jax_aiter.kernels.plan.steps import BUFFER_KINDS, Address, Buffer, CodeObject, Copy, Launch, Step
from jax_aiter.kernels.wire import varint


def encode(plan: PlanContent) -> bytes:
    """Self-contained bytes of `plan`, code objects included (compressed)."""
    body = _Writer(plan, _compressed).body()
    return wire.HEADER.pack(wire.MAGIC, _version(plan), 0, zlib.crc32(body)) + body


def content_digest(plan: PlanContent) -> str:
    # Compressed bytes differ between zlib builds; the hash of the content itself does not.
    body = _Writer(plan, lambda code: bytes.fromhex(code.sha256)).body()
    return hashlib.sha256(struct.pack("<H", _version(plan)) + body).hexdigest()


def _version(plan: PlanContent) -> int:
    """The lowest that has all the plan needs."""
    return 2 if any(isinstance(step, Address) for step in plan.steps) else 1


def _compressed(code: CodeObject) -> bytes:
    deflate = zlib.compressobj(level=9, wbits=-15)  # raw: the plan has its own checksum
    packed = deflate.compress(code.data) + deflate.flush()
    codec, payload = (wire.DEFLATE, packed) if len(packed) < code.nbytes else (wire.STORED, code.data)
    code_id = bytes.fromhex(code.sha256)[: wire.CODE_ID_BYTES]
    return code_id + varint(code.nbytes) + bytes([codec]) + varint(len(payload)) + payload


class _Writer:
    """Writes the parts that refer to strings and code objects by number first, then the tables they refer to."""

    def __init__(self, plan: PlanContent, write_code: Callable[[CodeObject], bytes]) -> None:
        self._plan = plan
        self._write_code = write_code
        self._strings: dict[str, int] = {}
        self._codes = {code: i for i, code in enumerate(plan.code_objects)}

    def body(self) -> bytes:
        plan = self._plan
        rest = b"".join(
            (
                self._string(plan.op) + self._string(plan.arch),
                varint(len(self._codes)),
                *(self._write_code(code) for code in self._codes),
                varint(len(plan.buffers)),
                *(self._buffer(b) for b in plan.buffers),
                varint(len(plan.aliases)),
                *(varint(operand) + varint(result) for operand, result in plan.aliases),
                varint(len(plan.steps)),
                *(self._step(s) for s in plan.steps),
            )
        )
        strings = [text.encode("ascii") for text in self._strings]
        return varint(len(strings)) + b"".join(varint(len(s)) + s for s in strings) + rest

    def _string(self, text: str) -> bytes:
        return varint(self._strings.setdefault(text, len(self._strings)))

    def _buffer(self, b: Buffer) -> bytes:
        head = bytes([BUFFER_KINDS.index(b.kind)]) + varint(b.index) + varint(b.nbytes)
        return head + bytes([b.alignment.bit_length() - 1]) + self._string(b.name)

    def _step(self, step: Step) -> bytes:
        if isinstance(step, Launch):
            return bytes([wire.LAUNCH]) + self._launch(step)
        if isinstance(step, Copy):
            values = (step.dst, step.dst_offset, step.src, step.src_offset, step.nbytes)
            return bytes([wire.COPY]) + b"".join(map(varint, values))
        if isinstance(step, Address):
            values = (step.buffer, step.byte_offset, step.target, step.target_offset)
            return bytes([wire.ADDRESS]) + b"".join(map(varint, values))
        place = varint(step.buffer) + varint(step.byte_offset) + varint(step.nbytes)
        return bytes([wire.FILL]) + place + bytes([step.width]) + varint(step.value)

    def _launch(self, step: Launch) -> bytes:
        args, end, params = step.args, 0, []
        for p in args.params:
            params.append(varint(p.offset - end) + varint(p.size))
            end = p.offset + p.size
        pointers = [varint(s.offset) + varint(s.buffer) + varint(s.byte_offset) for s in args.pointers]
        return b"".join(
            (
                varint(self._codes[step.code]) + self._string(step.symbol),
                *map(varint, (*step.grid, *step.block, step.shared_bytes)),
                varint(len(args.blob)) + args.blob,
                varint(len(params)) + b"".join(params),
                varint(len(pointers)) + b"".join(pointers),
            )
        )
