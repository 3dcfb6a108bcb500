"""The content of a launch plan, and the rules it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jax_aiter.kernels.args import POINTER_BYTES, require
from jax_aiter.kernels.plan.steps import BUFFER_KINDS, Address, Buffer, BufferKind, CodeObject, Fill, Launch, Step, is_name

_MAX_BUFFERS = 256  # the handler keeps their addresses on its stack
_MAX_THREADS_PER_BLOCK = 1024
_MAX_GRID_CUDA = (2**31 - 1, 65535, 65535)
_MAX_WORK_ITEMS_HIP = 2**32 - 1  # HSA dispatch packets count work-items per dimension in 32 bits


@dataclass(frozen=True)
class PlanContent:
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
        require(bool(self.op) and is_name(self.op), f"plan: op {self.op!r} must be printable ASCII")
        require(bool(self.arch) and is_name(self.arch), f"plan {self.op}: arch {self.arch!r} must be printable ASCII")
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


def _check_launch(where: str, step: Launch, arch: str) -> None:
    where = f"{where}, kernel {step.symbol}"
    require(bool(step.symbol) and is_name(step.symbol), f"{where}: symbol {step.symbol!r} is not a kernel name")
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
