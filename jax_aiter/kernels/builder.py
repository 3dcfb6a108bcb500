"""PlanBuilder: writes a LaunchPlan down step by step, keeping the buffer numbers."""

from __future__ import annotations

from collections.abc import Sequence

from jax_aiter.kernels.args import KernelArgs, Pointer, Raw, Scalar, require
from jax_aiter.kernels.plan import Address, Buffer, CodeObject, Copy, Fill, Launch, LaunchPlan, Step
from jax_aiter.kernels.plan.steps import BufferKind, on_buffers


class PlanBuilder:
    """Collects buffers and steps; `build()` checks them and returns the plan.

    `operand`, `result` and `scratch` return the buffer's number for use in `Pointer`, `fill`, `copy` and `alias`.
    Sizes and offsets are in bytes.
    """

    def __init__(self, op: str, arch: str) -> None:
        self._op, self._arch = op, arch
        self._buffers: list[Buffer] = []
        self._steps: list[Step] = []
        self._aliases: list[tuple[int, int]] = []
        self._codes: dict[bytes, CodeObject] = {}

    def _add(self, kind: BufferKind, nbytes: int, alignment: int, name: str) -> int:
        index = sum(b.kind == kind for b in self._buffers)
        self._buffers.append(Buffer(kind, index, nbytes, alignment, name))
        return len(self._buffers) - 1

    def operand(self, nbytes: int, alignment: int = 1, name: str = "") -> int:
        return self._add("operand", nbytes, alignment, name)

    def result(self, nbytes: int, alignment: int = 1, name: str = "") -> int:
        return self._add("result", nbytes, alignment, name)

    def scratch(self, nbytes: int, alignment: int = 16, name: str = "") -> int:
        return self._add("scratch", nbytes, alignment, name)

    def alias(self, operand: int, result: int) -> None:
        """Declares that buffer number `result` shares the memory of buffer number `operand`."""
        for number, kind in ((operand, "operand"), (result, "result")):
            found = self._buffers[number].kind
            require(found == kind, f"alias: buffer {number} is a {found}, expected a {kind}")
        self._aliases.append((self._buffers[operand].index, self._buffers[result].index))

    def fill(self, buffer: int, value: int = 0, *, width: int = 1, byte_offset: int = 0, nbytes: int | None = None):
        """Appends a Fill; without `nbytes` up to the buffer's end."""
        size = self._buffers[buffer].nbytes - byte_offset if nbytes is None else nbytes
        self._steps.append(Fill(buffer, byte_offset, size, value, width))

    def copy(self, dst: int, src: int, *, nbytes: int | None = None, dst_offset: int = 0, src_offset: int = 0) -> None:
        """Appends a Copy; without `nbytes` up to the source's end."""
        size = self._buffers[src].nbytes - src_offset if nbytes is None else nbytes
        self._steps.append(Copy(dst, dst_offset, src, src_offset, size))

    def address(self, buffer: int, byte_offset: int, target: Pointer) -> None:
        """Appends an Address: stores where `target` lies, 8 bytes, in a buffer."""
        self._steps.append(Address(buffer, byte_offset, target.buffer, target.byte_offset))

    def launch(
        self,
        code: bytes,
        symbol: str,
        grid: Sequence[int],
        block: Sequence[int],
        shared_bytes: int,
        args: Sequence[Pointer | Scalar | Raw],
        *,
        slot: int | None = None,
    ) -> None:
        """Appends a Launch; missing grid and block dimensions are 1, `args` are laid out by `KernelArgs.pack`."""
        self.launch_packed(code, symbol, grid, block, shared_bytes, KernelArgs.pack(args, slot=slot))

    def launch_packed(
        self, code: bytes, symbol: str, grid: Sequence[int], block: Sequence[int], shared_bytes: int, args: KernelArgs
    ) -> None:
        """`launch` with a finished argument block."""
        if code not in self._codes:
            self._codes[code] = CodeObject(code)
        self._steps.append(Launch(self._codes[code], symbol, _dim3(grid), _dim3(block), shared_bytes, args))

    def include(self, plan: LaunchPlan, operands: Sequence[int], results: Sequence[int]) -> None:
        """Appends all steps of another plan, on these buffers; its scratch is added. It must write no operand of its own."""
        require(not plan.aliases, f"plan {plan.op} writes its operands in place; it cannot be part of another plan")
        given = {"operand": list(operands), "result": list(results), "scratch": []}
        numbers = []
        for buffer in plan.buffers:
            if buffer.kind == "scratch":
                given["scratch"].append(self.scratch(buffer.nbytes, buffer.alignment, buffer.name))
            number = given[buffer.kind][buffer.index]
            size = self._buffers[number].nbytes
            require(size >= buffer.nbytes, f"plan {plan.op}: {buffer} stands for a buffer of {size} bytes")
            numbers.append(number)
        self._steps += [on_buffers(step, numbers) for step in plan.steps]

    def build(self) -> LaunchPlan:
        return LaunchPlan(self._op, self._arch, tuple(self._buffers), tuple(self._steps), tuple(sorted(self._aliases)))


def _dim3(dims: Sequence[int]) -> tuple[int, int, int]:
    require(1 <= len(dims) <= 3, f"grid or block {tuple(dims)}: expected one to three numbers")
    x, y, z = (*(int(d) for d in dims), 1, 1)[:3]
    return x, y, z
