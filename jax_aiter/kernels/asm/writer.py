"""PlanBuilder for hand-written kernels: buffers known by the names of the op's operands, launches from table rows and structs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax

from jax_aiter.kernels.args import Pointer
from jax_aiter.kernels.asm.structs import ArgStruct
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.call import nbytes
from jax_aiter.kernels.provider import Call

# AITER's kernels load and store up to 16 bytes at a time.
ALIGNMENT = 16
Structs = Mapping[str, jax.ShapeDtypeStruct]


class PlanWriter(PlanBuilder):
    """Operands and results are declared at once; ``writer.pointer(name)`` addresses them and named scratch alike."""

    def __init__(self, op: str, arch: str, operands: Structs, results: Structs):
        super().__init__(op, arch)
        self.numbers: dict[str, int] = {}
        for name, x in operands.items():
            self.numbers[name] = self.operand(nbytes(x), ALIGNMENT, name)
        for name, x in results.items():
            self.numbers[name] = self.result(nbytes(x), ALIGNMENT, name)

    @classmethod
    def of(cls, call: Call, results: Sequence[str]) -> PlanWriter:
        """For a plan that is the whole call; `results` are the op's result names, in order."""
        assert call.target.arch is not None
        return cls(call.op, call.target.arch, call.operands, dict(zip(results, call.results, strict=True)))

    def temporary(self, name: str, nbytes: int) -> None:
        """Scratch memory of that many bytes, undefined until something writes it."""
        self.numbers[name] = self.scratch(max(nbytes, 1), ALIGNMENT, name)

    def pointer(self, name: str, byte_offset: int = 0) -> Pointer | None:
        """The address of a buffer; None (a null pointer) for an absent optional operand."""
        return Pointer(self.numbers[name], byte_offset) if name in self.numbers else None

    def clear(self, name: str) -> None:
        self.fill(self.numbers[name], 0)

    def kernel(self, kernel: Kernel, grid: Sequence[int], threads: int, layout: ArgStruct, **values) -> None:
        """Appends a launch of a table row's kernel; `values` are the struct's members."""
        self.launch(kernel.code(), kernel.symbol, grid, (threads,), 0, layout.pack(**values), slot=layout.slot)
