"""What a launch plan is made of: buffers, code objects, and steps over them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from jax_aiter.kernels.args import POINTER_BYTES, KernelArgs, require

BufferKind = Literal["operand", "result", "scratch"]
BUFFER_KINDS: tuple[BufferKind, ...] = ("operand", "result", "scratch")

MAX_CODE_BYTES = 2**30


@dataclass(frozen=True)
class CodeObject:
    """A loadable GPU binary (AMD code object or CUDA cubin), known by its content."""

    data: bytes

    def __post_init__(self) -> None:
        require(isinstance(self.data, bytes), f"code object: expected bytes, got {type(self.data).__name__}")
        require(bool(self.data), "code object: it is empty")
        require(self.nbytes <= MAX_CODE_BYTES, f"code object: {self.nbytes} bytes, at most {MAX_CODE_BYTES}")

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"CodeObject({self.sha256[:12]}, {self.nbytes} bytes)"


@dataclass(frozen=True, slots=True)
class Buffer:
    """One row of the buffer table.

    `index` counts within `kind`. Scratch buffers are extra results of the custom call that the Python wrapper drops.
    `alignment` (bytes, a power of two) is what the kernels were compiled to rely on; the handler checks it.
    """

    kind: BufferKind
    index: int
    nbytes: int
    alignment: int = 1
    name: str = ""

    def __post_init__(self) -> None:
        require(self.kind in BUFFER_KINDS, f"buffer kind {self.kind!r}: expected one of {', '.join(BUFFER_KINDS)}")
        require(self.index >= 0, f"{self}: index must not be negative")
        require(is_name(self.name), f"{self.kind}[{self.index}]: name {self.name!r} must be printable ASCII")
        require(0 <= self.nbytes < 2**62, f"{self}: nbytes must be in 0 .. 2**62 - 1")
        power_of_two = self.alignment > 0 and self.alignment & (self.alignment - 1) == 0
        require(power_of_two and self.alignment <= 4096, f"{self}: alignment must be a power of two up to 4096")

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"{self.kind}[{self.index}]{name} ({self.nbytes} bytes, align {self.alignment})"


@dataclass(frozen=True, slots=True)
class Launch:
    """Runs kernel `symbol` of `code`. `grid` counts blocks (not threads), `shared_bytes` is dynamic shared memory."""

    code: CodeObject
    symbol: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    args: KernelArgs

    def accesses(self) -> Iterable[tuple[int, int, int]]:
        for s in self.args.pointers:
            yield s.buffer, s.byte_offset, 0  # how far a kernel reads past its pointer is the kernel's affair


@dataclass(frozen=True, slots=True)
class Fill:
    """Sets `nbytes` of a buffer to a repeated unsigned `value` of `width` bytes (1, 2 or 4)."""

    buffer: int
    byte_offset: int
    nbytes: int
    value: int = 0
    width: int = 1

    def accesses(self) -> Iterable[tuple[int, int, int]]:
        yield self.buffer, self.byte_offset, self.nbytes


@dataclass(frozen=True, slots=True)
class Copy:
    """Copies `nbytes` on the device from one buffer to another; the two ranges must not overlap."""

    dst: int
    dst_offset: int
    src: int
    src_offset: int
    nbytes: int

    def accesses(self) -> Iterable[tuple[int, int, int]]:
        yield self.dst, self.dst_offset, self.nbytes
        yield self.src, self.src_offset, self.nbytes


@dataclass(frozen=True, slots=True)
class Address:
    """Stores the 8-byte address of `target` + `target_offset` in a buffer: for kernels that find a buffer through memory.

    `byte_offset` is a multiple of 8. Like a kernel's arguments the address is that of the execution at hand.
    """

    buffer: int
    byte_offset: int
    target: int
    target_offset: int = 0

    def accesses(self) -> Iterable[tuple[int, int, int]]:
        yield self.buffer, self.byte_offset, POINTER_BYTES
        yield self.target, self.target_offset, 0


Step = Launch | Fill | Copy | Address


def on_buffers(step: Step, numbers: Sequence[int]) -> Step:
    """The same step where buffer i of it is number ``numbers[i]``."""
    if isinstance(step, Launch):
        pointers = tuple(replace(slot, buffer=numbers[slot.buffer]) for slot in step.args.pointers)
        return replace(step, args=replace(step.args, pointers=pointers))
    if isinstance(step, Copy):
        return replace(step, dst=numbers[step.dst], src=numbers[step.src])
    if isinstance(step, Address):
        return replace(step, buffer=numbers[step.buffer], target=numbers[step.target])
    return replace(step, buffer=numbers[step.buffer])


def is_name(text: str) -> bool:
    return text.isascii() and text.isprintable()
