"""LaunchPlan: all that a kernel library's host code would decide, written down as data.

A plan is a list of steps over numbered buffers. It is made in Python when an op is traced, from static shapes; it
travels inside the executable as the attribute of one custom call; and the C++ handler (`ffi/`) replays it on XLA's
stream. Nothing is decided at run time, so nothing has to be allocated, compiled or looked up at run time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from jax_aiter.kernels.args import POINTER_BYTES, KernelArgs, PlanError, require

__all__ = ["Address", "Buffer", "CodeObject", "Copy", "Fill", "Launch", "LaunchPlan", "PlanError", "Step"]

BufferKind = Literal["operand", "result", "scratch"]
BUFFER_KINDS: tuple[BufferKind, ...] = ("operand", "result", "scratch")

MAX_CODE_BYTES = 2**30
_MAX_BUFFERS = 256  # the handler keeps their addresses on its stack
_MAX_THREADS_PER_BLOCK = 1024
_MAX_GRID_CUDA = (2**31 - 1, 65535, 65535)
_MAX_WORK_ITEMS_HIP = 2**32 - 1  # HSA dispatch packets count work-items per dimension in 32 bits


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
        require(_is_name(self.name), f"{self.kind}[{self.index}]: name {self.name!r} must be printable ASCII")
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


@dataclass(frozen=True)
class LaunchPlan:
    """What one call of an op does on a device of architecture `arch` ("gfx942", "gfx950", "sm_90", or "mock").

    `aliases` pairs an operand index with the result index that shares its memory (an op that works in place).
    Raises `PlanError` when a step refers to memory outside its buffer or breaks another rule.
    """

    op: str
    arch: str
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    aliases: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.op) and _is_name(self.op), f"plan: op {self.op!r} must be printable ASCII")
        require(bool(self.arch) and _is_name(self.arch), f"plan {self.op}: arch {self.arch!r} must be printable ASCII")
        require(len(self.buffers) <= _MAX_BUFFERS, f"plan {self.op}: {len(self.buffers)} buffers, at most {_MAX_BUFFERS}")
        for kind in BUFFER_KINDS:
            found = [b.index for b in self.buffers if b.kind == kind]
            require(
                found == list(range(len(found))),
                f"plan {self.op}: {kind} buffers have indices {found}, expected 0, 1, ... each once and in order",
            )
        for i, step in enumerate(self.steps):
            self._check_step(f"plan {self.op}, step {i}", step)
        self._check_aliases()

    def _check_step(self, where: str, step: Step) -> None:
        for buffer, offset, nbytes in step.accesses():
            require(0 <= buffer < len(self.buffers), f"{where}: buffer {buffer}, the plan has {len(self.buffers)}")
            size = self.buffers[buffer].nbytes
            require(
                0 <= offset <= size and 0 <= nbytes <= size - offset,
                f"{where}: bytes {offset} .. {offset + nbytes} lie outside {self.buffers[buffer]}",
            )
        if isinstance(step, Launch):
            _check_launch(where, step, self.arch)
        elif isinstance(step, Fill):
            require(step.width in (1, 2, 4), f"{where}: fill width {step.width}, expected 1, 2 or 4 bytes")
            limit = 1 << (8 * step.width)
            require(0 <= step.value < limit, f"{where}: fill value {step.value} does not fit in {step.width} bytes")
            whole = step.nbytes % step.width == 0 and step.byte_offset % step.width == 0
            require(whole, f"{where}: fill range must be a multiple of its width of {step.width} bytes")
        elif isinstance(step, Address):
            whole = step.byte_offset % POINTER_BYTES == 0
            require(whole, f"{where}: address stored at byte {step.byte_offset}, expected a multiple of {POINTER_BYTES}")
        elif self._memory(step.dst) == self._memory(step.src):
            apart = abs(step.dst_offset - step.src_offset) >= step.nbytes
            require(apart, f"{where}: source and destination of the copy overlap in {self.buffers[step.dst]}")

    def _memory(self, buffer: int) -> tuple[str, int]:
        """Identifies the memory behind a buffer: an aliased result is its operand."""
        b = self.buffers[buffer]
        operand = next((o for o, r in self.aliases if b.kind == "result" and r == b.index), None)
        return (b.kind, b.index) if operand is None else ("operand", operand)

    def _check_aliases(self) -> None:
        for operand, result in self.aliases:
            where = f"plan {self.op}: alias operand {operand} -> result {result}"
            require(0 <= operand < len(self.operands), f"{where}: there are {len(self.operands)} operands")
            require(0 <= result < len(self.results), f"{where}: there are {len(self.results)} results")
            a, b = self.operands[operand].nbytes, self.results[result].nbytes
            require(a == b, f"{where}: sizes differ ({a} and {b} bytes)")
        for side, name in enumerate(("operand", "result")):
            used = [pair[side] for pair in self.aliases]
            require(len(used) == len(set(used)), f"plan {self.op}: an {name} is aliased more than once")

    def _of_kind(self, kind: BufferKind) -> tuple[Buffer, ...]:
        return tuple(b for b in self.buffers if b.kind == kind)

    @cached_property
    def operands(self) -> tuple[Buffer, ...]:
        return self._of_kind("operand")

    @cached_property
    def results(self) -> tuple[Buffer, ...]:
        return self._of_kind("result")

    @cached_property
    def scratch(self) -> tuple[Buffer, ...]:
        return self._of_kind("scratch")

    @property
    def kernels(self) -> tuple[str, ...]:
        """Kernel symbols in launch order."""
        return tuple(s.symbol for s in self.steps if isinstance(s, Launch))

    @property
    def code_objects(self) -> tuple[CodeObject, ...]:
        """The distinct code objects, in order of first use."""
        return tuple(dict.fromkeys(s.code for s in self.steps if isinstance(s, Launch)))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan's content in hex: equal for equal plans, in any process and on any machine."""
        from jax_aiter.kernels.encode import content_digest

        return content_digest(self)

    def __str__(self) -> str:
        from jax_aiter.kernels.pretty import format_plan

        return format_plan(self)


def _is_name(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _check_launch(where: str, step: Launch, arch: str) -> None:
    where = f"{where}, kernel {step.symbol}"
    require(bool(step.symbol) and _is_name(step.symbol), f"{where}: symbol {step.symbol!r} is not a kernel name")
    for name, dims in (("grid", step.grid), ("block", step.block)):
        require(len(dims) == 3 and min(dims) >= 1, f"{where}: {name} {dims}, expected three positive numbers")
    threads = step.block[0] * step.block[1] * step.block[2]
    require(
        threads <= _MAX_THREADS_PER_BLOCK,
        f"{where}: block {step.block} has {threads} threads, more than {_MAX_THREADS_PER_BLOCK}",
    )
    if arch.startswith("sm_"):
        fits = all(g <= limit for g, limit in zip(step.grid, _MAX_GRID_CUDA, strict=True))
        require(fits, f"{where}: grid {step.grid} exceeds CUDA's limit {_MAX_GRID_CUDA}")
    else:
        fits = all(g * b <= _MAX_WORK_ITEMS_HIP for g, b in zip(step.grid, step.block, strict=True))
        require(fits, f"{where}: grid {step.grid} x block {step.block} exceeds 2**32 - 1 work-items per dimension")
    require(0 <= step.shared_bytes < 2**31, f"{where}: shared_bytes {step.shared_bytes}, expected 0 .. 2**31 - 1")
