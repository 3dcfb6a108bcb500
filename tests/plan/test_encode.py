"""The encoding: round trips through both decoders, and what is refused."""

import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_aiter.kernels import _native, wire
from jax_aiter.kernels.args import KernelArgs, Pointer
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.plan import Address, CodeObject, Copy, Fill, Launch, LaunchPlan, PlanError
from jax_aiter.kernels.plan.decode import decode
from jax_aiter.kernels.plan.encode import encode
from jax_aiter.kernels.plan.steps import BUFFER_KINDS
from tests.plan.samples import add_constant_plan, plans


def view(plan: LaunchPlan) -> dict:
    """The plan as ffi/testing.cc shows the native decoder's result."""

    def step(s):
        if isinstance(s, Fill):
            return {"fill": (s.buffer, s.byte_offset, s.nbytes, s.value, s.width)}
        if isinstance(s, Copy):
            return {"copy": (s.dst, s.dst_offset, s.src, s.src_offset, s.nbytes)}
        if isinstance(s, Address):
            return {"address": (s.buffer, s.byte_offset, s.target, s.target_offset)}
        return {
            "code": plan.code_objects.index(s.code),
            "symbol": s.symbol,
            "grid": s.grid,
            "block": s.block,
            "shared_bytes": s.shared_bytes,
            "blob": s.args.blob,
            "params": [(p.offset, p.size) for p in s.args.params],
            "pointers": [(p.offset, p.buffer, p.byte_offset) for p in s.args.pointers],
        }

    return {
        "op": plan.op,
        "arch": plan.arch,
        "codes": [c.data for c in plan.code_objects],
        "buffers": [(BUFFER_KINDS.index(b.kind), b.index, b.nbytes, b.alignment, b.name) for b in plan.buffers],
        "aliases": list(plan.aliases),
        "steps": [step(s) for s in plan.steps],
    }


def native_decode(data: bytes) -> dict:
    return _native.load().testing.decode(data)


@settings(max_examples=300)
@given(plans())
def test_round_trip(plan):
    data = encode(plan)
    assert decode(data) == plan
    assert encode(decode(data)) == data
    assert native_decode(data) == view(plan)


def test_aliases_round_trip():
    b = PlanBuilder("inplace", "mock")
    x, y, out, out2 = b.operand(8), b.operand(16), b.result(16), b.result(8)
    b.alias(x, out2)
    b.alias(y, out)
    plan = b.build()
    assert decode(encode(plan)) == plan
    assert native_decode(encode(plan))["aliases"] == [(0, 1), (1, 0)]


def test_identical_code_objects_are_written_once():
    small, large = (encode(add_constant_plan(4, 1, filler=bytes(range(256)) * n)) for n in (1, 40))
    assert len(large) < len(small) + 400  # repetition compresses; and one copy, not one per launch


def with_checksum(data: bytes) -> bytes:
    return data[:8] + struct.pack("<I", zlib.crc32(data[12:])) + data[12:]


GOOD = encode(add_constant_plan(8, 3))


@pytest.mark.parametrize(
    ("data", "python_message", "native_message"),
    [
        (b"", "shorter than its header", "shorter than the header"),
        (b"ELF!" + GOOD[4:], "expected b'JAPL'", "does not start with JAPL"),
        (GOOD[:4] + b"\3\0" + GOOD[6:], "version 3, this library reads versions up to 2", "its version is 3, this jax_aiter reads"),
        (GOOD[:4] + b"\0\0" + GOOD[6:], "version 0, this library reads", "its version is 0, this jax_aiter reads"),
        (GOOD[:6] + b"\1\0" + GOOD[8:], "reserved header bytes", "reserved header bytes"),
        (GOOD[:-1], "checksum mismatch", "checksum mismatch"),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "checksum mismatch", "checksum mismatch"),
        (with_checksum(GOOD[:20]), "bytes wanted at byte", "bytes wanted, 6 left"),
        (with_checksum(GOOD + b"x"), "1 bytes after its end", "1 bytes follow the end"),
        (with_checksum(GOOD[:12] + b"\xff" * 10), "more than 63 bits", "more than 63 bits"),
    ],
)
def test_damage_is_named(data, python_message, native_message):
    with pytest.raises(PlanError, match=python_message):
        decode(data)
    with pytest.raises(ValueError, match=native_message):
        native_decode(data)


@settings(max_examples=500)
@given(st.data())
def test_both_decoders_accept_the_same(data):
    """A mutated encoding with a correct checksum is refused by both decoders, or gives both the same plan."""
    body = bytearray(GOOD[12:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    mutated = with_checksum(GOOD[:12] + bytes(body))
    results = []
    for read, show in ((decode, view), (native_decode, dict)):
        try:
            results.append(show(read(mutated)))
        except ValueError:
            results.append(None)
    python, native = results
    assert native == python


@pytest.mark.parametrize("value", [2**31, 2**32, 2**62, 2**63 - 1])
def test_a_huge_number_anywhere_is_refused_by_both(value):
    """In place of every byte of an encoding in turn: sizes, counts, offsets and numbers of every kind among them."""
    refused = 0
    for at in range(12, len(GOOD)):
        mutated = with_checksum(GOOD[:at] + wire.varint(value) + GOOD[at + 1 :])
        try:
            got = view(decode(mutated))
        except PlanError:
            refused += 1
            with pytest.raises(ValueError):
                native_decode(mutated)
        else:
            assert native_decode(mutated) == got
    assert refused > (len(GOOD) - 12) * 0.9


def test_a_number_of_more_than_63_bits_is_not_written():
    for value in (2**63, 2**70, -1):
        with pytest.raises(PlanError, match=f"{value}"):
            wire.varint(value)


@pytest.mark.parametrize("size", [*range(1, 130), 1000, 4095, 4096, 65_537])
def test_a_code_object_is_known_by_its_hash(size):
    """Every length of SHA-256's last block; one flipped bit of the image or of its name is seen."""
    image = random.Random(size).randbytes(size)
    plan = LaunchPlan("f", "mock", (), (Launch(CodeObject(image), "k", (1, 1, 1), (1, 1, 1), 0, KernelArgs(b"")),))
    data = encode(plan)
    assert native_decode(data)["codes"] == [image]
    name = bytes.fromhex(plan.code_objects[0].sha256)[:8]
    for part in [name, *([image] if image in data else [])]:  # a compressed image does not stand there as it is
        at = data.index(part) + len(part) // 2
        damaged = with_checksum(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        with pytest.raises(PlanError, match="does not match its hash"):
            decode(damaged)
        with pytest.raises(ValueError, match="does not match its hash"):
            native_decode(damaged)


@given(st.integers(0, 2**63 - 1))
def test_varint(value):
    encoded = wire.varint(value)
    assert len(encoded) == max(1, -(-value.bit_length() // 7))
    assert sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(encoded)) == value


def test_a_plan_has_the_lowest_version_that_can_say_it():
    b = PlanBuilder("f", "mock")
    x, table = b.operand(64), b.scratch(16)
    b.fill(table, 0)
    assert encode(b.build())[4:6] == b"\1\0"
    b.address(table, 8, Pointer(x, 4))
    data = encode(b.build())
    assert data[4:6] == b"\2\0"
    older = data[:4] + b"\1\0" + data[6:]
    with pytest.raises(PlanError, match="step tag 3 is unknown"):
        decode(older)
    with pytest.raises(ValueError, match="stores an address in version 1"):
        native_decode(older)
    assert data.endswith(b"\x08\0\4")
    outside = {b"\x10\0\4": "outside", b"\x08\0\x41": "outside"}
    for end, message in {b"\x04\0\4": "multiple of 8", b"\x08\2\4": "buffer 2", **outside}.items():
        wrong = with_checksum(data[:-3] + end)
        with pytest.raises(PlanError, match=message):
            decode(wrong)
        with pytest.raises(ValueError, match=message):
            native_decode(wrong)


def test_copy_within_aliased_memory_is_refused_by_both():
    """An overlapping copy between an operand and the result that shares its memory, written by going round the constructor."""
    b = PlanBuilder("shift", "mock")
    x, out = b.operand(64), b.result(64)
    b.alias(x, out)
    b.copy(out, x, nbytes=16, dst_offset=20)
    data = encode(b.build())
    assert data.endswith(bytes([2, 1, 20, 0, 0, 16]))  # copy to buffer 1 at 20 from buffer 0 at 0, 16 bytes
    overlapping = with_checksum(data[:-4] + bytes([8, 0, 0, 16]))
    with pytest.raises(PlanError, match="overlap"):
        decode(overlapping)
    with pytest.raises(ValueError, match="source and destination overlap"):
        native_decode(overlapping)
