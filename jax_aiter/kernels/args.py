"""Packed kernel arguments: the argument block a GPU kernel reads, with holes where buffer addresses go.

Both HIP and CUDA accept the arguments of a launch as one block of bytes (`HIP_LAUNCH_PARAM_BUFFER_POINTER`,
`CU_LAUNCH_PARAM_BUFFER_POINTER`). Everything in it is known when the plan is made except the addresses, so a plan
keeps the finished block and a short list of the places that receive an address at launch. `params` remembers where
each parameter lies, from which the other calling style, an array of pointers to parameters, can be derived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

# CUDA's classic limit for kernel parameters; AITER's largest block is far below it. The handler keeps a block of
# this size on its stack, so that launching allocates nothing.
MAX_BLOB_BYTES = 4096
POINTER_BYTES = 8

_SCALAR_DTYPES: dict[str, np.dtype] = {
    "i1": np.dtype(np.uint8),  # a C bool: one byte, 0 or 1
    "u1": np.dtype(np.uint8),
    "i8": np.dtype("<i1"),
    "u8": np.dtype("<u1"),
    "i16": np.dtype("<i2"),
    "u16": np.dtype("<u2"),
    "i32": np.dtype("<i4"),
    "u32": np.dtype("<u4"),
    "i64": np.dtype("<i8"),
    "u64": np.dtype("<u8"),
    "fp16": np.dtype("<f2"),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "fp32": np.dtype("<f4"),
    "fp64": np.dtype("<f8"),
}


class PlanError(ValueError):
    """A launch plan, or a part of one, breaks a rule; the message names the part, its value and the rule."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise PlanError(message)


@dataclass(frozen=True, slots=True)
class Pointer:
    """The address of plan buffer number `buffer`, plus `byte_offset`."""

    buffer: int
    byte_offset: int = 0


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number passed by value; `type` is one of Triton's names: i1 u1 i8 ... u64 fp16 bf16 fp32 fp64."""

    type: str
    value: int | float | bool

    def to_bytes(self) -> bytes:
        dtype = _SCALAR_DTYPES.get(self.type)
        if dtype is None:
            raise PlanError(f"scalar type {self.type!r}: expected one of {', '.join(_SCALAR_DTYPES)}")
        if self.type in ("i1", "u1"):
            require(self.value in (0, 1), f"scalar {self.value!r} of type {self.type}: expected 0 or 1")
            return bytes([int(self.value)])
        if dtype.kind in "iu":
            value, info = int(self.value), np.iinfo(dtype)
            require(value == self.value, f"scalar {self.value!r} of type {self.type}: not an integer")
            require(
                info.min <= value <= info.max,
                f"scalar {value} does not fit in {self.type} (range {info.min} .. {info.max})",
            )
            return np.array(value, dtype).tobytes()
        with np.errstate(over="ignore"):  # an overflow becomes inf, as C's conversion does
            return np.array(float(self.value)).astype(dtype).tobytes()


@dataclass(frozen=True, slots=True)
class Raw:
    """A struct passed by value: its bytes and the alignment C gives it."""

    data: bytes
    alignment: int = 1


@dataclass(frozen=True, slots=True)
class Param:
    """Where one parameter lies in the block, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PointerSlot:
    """Eight bytes at `offset` of the block receive the address of `buffer` + `byte_offset`."""

    offset: int
    buffer: int
    byte_offset: int = 0


@dataclass(frozen=True, slots=True)
class KernelArgs:
    """The argument block `blob` (zero where an address goes), its address slots and its parameters, in order."""

    blob: bytes
    pointers: tuple[PointerSlot, ...] = ()
    params: tuple[Param, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.blob)
        require(size <= MAX_BLOB_BYTES, f"argument block: {size} bytes, more than the limit of {MAX_BLOB_BYTES}")
        end = 0
        for i, p in enumerate(self.params):
            where = f"params[{i}] at offset {p.offset}, {p.size} bytes"
            require(p.size > 0, f"{where}: size must be positive")
            require(p.offset >= end, f"{where}: overlaps the parameter before it, which ends at {end}")
            end = p.offset + p.size
            require(end <= size, f"{where}: ends outside the argument block of {size} bytes")
        end = 0
        for i, s in enumerate(self.pointers):
            where = f"pointers[{i}] at offset {s.offset}"
            require(s.offset >= end, f"{where}: overlaps the address before it, which ends at {end}")
            end = s.offset + POINTER_BYTES
            require(end <= size, f"{where}: ends outside the argument block of {size} bytes")
            require(not any(self.blob[s.offset : end]), f"{where}: the block must be zero where an address goes")
            require(s.buffer >= 0 and s.byte_offset >= 0, f"{where}: buffer and byte offset must not be negative")

    @classmethod
    def pack(cls, args: Sequence[Pointer | Scalar | Raw], *, slot: int | None = None) -> KernelArgs:
        """Lays out `args` in order, each at its natural C alignment, or at the next multiple of `slot` bytes.

        `slot=16` is the layout of AITER's hand-written kernels (packed structs whose every member is padded to 16
        bytes, the last one too); the default is that of kernels compiled by Triton, HIP and CUDA.
        """
        require(slot is None or slot > 0, f"slot: {slot}, expected a positive number of bytes")
        blob, pointers, params = bytearray(), [], []
        for arg in args:
            data = bytes(POINTER_BYTES) if isinstance(arg, Pointer) else _payload(arg)
            alignment = slot or (arg.alignment if isinstance(arg, Raw) else len(data))
            blob.extend(bytes(-len(blob) % alignment))
            params.append(Param(len(blob), len(data)))
            if isinstance(arg, Pointer):
                pointers.append(PointerSlot(len(blob), arg.buffer, arg.byte_offset))
            blob.extend(data)
        if slot:
            blob.extend(bytes(-len(blob) % slot))
        return cls(bytes(blob), tuple(pointers), tuple(params))


def _payload(arg: Scalar | Raw) -> bytes:
    data = arg.to_bytes() if isinstance(arg, Scalar) else bytes(arg.data)
    require(bool(data), "an argument passed by value must have at least one byte")
    return data
