"""Argument packing against `struct`, whose native mode is the C compiler's own layout."""

import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_aiter.kernels.args import KernelArgs, Param, PlanError, Pointer, PointerSlot, Raw, Scalar

# Triton's type names and C's, as struct codes. bf16 has no code there; it is tested below.
STRUCT_CODES = {
    "i1": "?", "u1": "?", "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I",
    "i64": "q", "u64": "Q", "fp16": "e", "fp32": "f", "fp64": "d",
}  # fmt: skip


def values(name: str) -> st.SearchStrategy:
    if name in ("i1", "u1"):
        return st.booleans()
    if name.startswith("fp"):
        return st.floats(width={"fp16": 16, "fp32": 32, "fp64": 64}[name], allow_nan=False)
    bits = 8 * struct.calcsize(STRUCT_CODES[name])
    return st.integers(0, 2**bits - 1) if name[0] == "u" else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


scalars = st.sampled_from(sorted(STRUCT_CODES)).flatmap(lambda n: st.builds(Scalar, st.just(n), values(n)))


@given(st.lists(scalars | st.builds(Pointer, st.integers(0, 9), st.integers(0, 99)), min_size=1, max_size=20))
def test_natural_layout_is_that_of_a_c_struct(args):
    code = "@" + "".join("P" if isinstance(a, Pointer) else STRUCT_CODES[a.type] for a in args)
    expected = struct.pack(code, *(0 if isinstance(a, Pointer) else a.value for a in args))
    packed = KernelArgs.pack(args)
    assert packed.blob == expected

    pointers = [a for a in args if isinstance(a, Pointer)]
    assert [(s.buffer, s.byte_offset) for s in packed.pointers] == [(p.buffer, p.byte_offset) for p in pointers]
    for i, param in enumerate(packed.params):
        # calcsize of the members up to and including this one is where it ends in a C struct
        assert param.offset + param.size == struct.calcsize(code[: i + 2])


@given(st.lists(scalars | st.builds(Pointer, st.integers(0, 9)), min_size=1, max_size=20))
def test_slots_pad_every_argument_to_sixteen_bytes(args):
    """AITER's asm argument structs are packed and follow every member by padding up to 16 bytes (`p2`, `p3`)."""
    expected = b""
    for a in args:
        one = struct.pack("<Q", 0) if isinstance(a, Pointer) else struct.pack("<" + STRUCT_CODES[a.type], a.value)
        expected += one + bytes(16 - len(one))
    packed = KernelArgs.pack(args, slot=16)
    assert packed.blob == expected
    assert [p.offset for p in packed.params] == list(range(0, 16 * len(args), 16))


def test_bf16_rounds_to_nearest_even():
    values = [1.0, -2.5, 1.00390625, 1.01171875, 3.0e38, float("inf"), 1e-40]
    for value in values:
        expected = np.float32(value).astype(ml_dtypes.bfloat16).tobytes()
        assert Scalar("bf16", value).to_bytes() == expected
    assert Scalar("bf16", 1.00390625).to_bytes() == struct.pack("<H", 0x3F80)  # a tie: to even
    assert Scalar("bf16", 1.01171875).to_bytes() == struct.pack("<H", 0x3F82)


def test_structs_keep_their_bytes_and_alignment():
    packed = KernelArgs.pack([Scalar("i8", 1), Raw(b"abcdef", 4), Scalar("i16", -2)])
    assert packed.blob == b"\x01\0\0\0abcdef\xfe\xff"
    assert packed.params == (Param(0, 1), Param(4, 6), Param(10, 2))


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        (Scalar("i32", 2**31), r"scalar 2147483648 does not fit in i32 \(range -2147483648 .. 2147483647\)"),
        (Scalar("u8", -1), "scalar -1 does not fit in u8"),
        (Scalar("i32", 1.5), "scalar 1.5 of type i32: not an integer"),
        (Scalar("i1", 2), "scalar 2 of type i1: expected 0 or 1"),
        (Scalar("int", 2), "scalar type 'int': expected one of i1"),
        (Raw(b""), "at least one byte"),
        (Raw(bytes(5000)), "argument block: 5000 bytes, more than the limit of 4096"),
        (Pointer(-1), "must not be negative"),
    ],
)
def test_bad_arguments_are_named(arg, message):
    with pytest.raises(PlanError, match=message):
        KernelArgs.pack([arg])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (lambda: KernelArgs(bytes(8), (PointerSlot(1, 0),)), "ends outside the argument block of 8 bytes"),
        (lambda: KernelArgs(bytes(16), (PointerSlot(0, 0), PointerSlot(4, 0))), "overlaps the address before it"),
        (lambda: KernelArgs(b"\1" * 8, (PointerSlot(0, 0),)), "must be zero where an address goes"),
        (lambda: KernelArgs(bytes(8), (), (Param(0, 9),)), "ends outside"),
        (lambda: KernelArgs(bytes(8), (), (Param(0, 4), Param(2, 4))), "overlaps the parameter before it"),
        (lambda: KernelArgs(bytes(8), (), (Param(0, 0),)), "size must be positive"),
    ],
)
def test_bad_blocks_are_named(args, message):
    with pytest.raises(PlanError, match=message):
        args()
