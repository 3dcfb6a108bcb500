"""Replays a launch plan on the bare interpreter with every buffer, scratch too, an allocation of its own.

XLA divides large allocations among its buffers, so that the virtual device sees no overrun from one into the next. Here it does:
an access outside a buffer fails with the kernel, the instruction and the address.
"""

import ctypes
from collections.abc import Mapping

import numpy as np

from jax_aiter.kernels.plan import Copy, Fill, Launch, LaunchPlan

CHECK_MEMORY = 1
LIMIT = 500_000_000  # instructions


class Overrun(AssertionError):
    """A kernel failed, as a rule because it touched memory outside its buffers."""


class Interpreter:
    """libvgpu_isa.so, for one architecture."""

    def __init__(self, arch: str):
        # It lies beside the virtual device's other libraries, which `vgpu run` lets this process find.
        self.lib = lib = ctypes.CDLL("libvgpu_isa.so")
        lib.vgpu_isa_open.restype = lib.vgpu_isa_alloc.restype = ctypes.c_void_p
        lib.vgpu_isa_error.restype = ctypes.c_char_p
        self.handle = ctypes.c_void_p(lib.vgpu_isa_open(arch.encode()))
        self.modules: dict[str, int] = {}

    def run(self, plan: LaunchPlan, operands: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Results and scratch as bytes, by name; operands are given by name. Memory that nothing filled holds 0xa5."""
        arrays, pointers = [], []
        for buffer in plan.buffers:
            data = np.full(buffer.nbytes, 0xA5, np.uint8)
            if buffer.kind == "operand":
                data = np.ascontiguousarray(operands[buffer.name]).reshape(-1).view(np.uint8)
                assert data.nbytes == buffer.nbytes, buffer
            pointer = self.lib.vgpu_isa_alloc(self.handle, ctypes.c_size_t(max(buffer.nbytes, 1)))
            ctypes.memmove(pointer, data.ctypes.data, data.nbytes)
            arrays.append(data)
            pointers.append(pointer)
        try:
            for step in plan.steps:
                self._step(step, pointers)
            found = {}
            for buffer, pointer in zip(plan.buffers, pointers, strict=True):
                out = np.empty(buffer.nbytes, np.uint8)
                ctypes.memmove(out.ctypes.data, pointer, buffer.nbytes)
                if buffer.kind != "operand":
                    found[buffer.name] = out
            return found
        finally:
            for pointer in pointers:
                self.lib.vgpu_isa_free(self.handle, ctypes.c_void_p(pointer))

    def _step(self, step, pointers: list[int]) -> None:
        if isinstance(step, Fill):
            data = np.full(step.nbytes // step.width, step.value, f"u{step.width}")
            ctypes.memmove(pointers[step.buffer] + step.byte_offset, data.ctypes.data, step.nbytes)
        elif isinstance(step, Copy):
            ctypes.memmove(pointers[step.dst] + step.dst_offset, pointers[step.src] + step.src_offset, step.nbytes)
        elif isinstance(step, Launch):
            self._launch(step, pointers)
        else:
            raise NotImplementedError(f"a {type(step).__name__} step")

    def _launch(self, step: Launch, pointers: list[int]) -> None:
        blob = bytearray(step.args.blob)
        for slot in step.args.pointers:
            blob[slot.offset : slot.offset + 8] = (pointers[slot.buffer] + slot.byte_offset).to_bytes(8, "little")
        if step.code.sha256 not in self.modules:
            image = step.code.data
            self.modules[step.code.sha256] = self.lib.vgpu_isa_load(self.handle, image, ctypes.c_size_t(len(image)))
        three, args = ctypes.c_uint32 * 3, bytes(blob)
        status = self.lib.vgpu_isa_launch(
            self.handle,
            self.modules[step.code.sha256],
            step.symbol.encode(),
            three(*step.grid),
            three(*step.block),
            ctypes.c_uint32(step.shared_bytes),
            args,
            ctypes.c_size_t(len(args)),
            ctypes.c_uint32(CHECK_MEMORY),
            ctypes.c_uint32(1),
            ctypes.c_uint64(LIMIT),
            (ctypes.c_uint64 * 24)(),
        )
        if status:
            raise Overrun(self.lib.vgpu_isa_error(self.handle).decode())
