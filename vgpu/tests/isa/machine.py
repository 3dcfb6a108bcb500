"""The interpreter's C API through ctypes: load code objects, launch kernels over numpy arrays."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np

CHECK_MEMORY, CHECK_HAZARD, COLLECT_HAZARDS = 1, 8, 16


def library_path() -> Path:
    """VGPU_LIBRARY, or the installed package's (or VGPU_LIBRARY_DIR's), or a build of the sources beside this test."""
    if path := os.environ.get("VGPU_LIBRARY"):
        return Path(path)
    try:
        from vgpu.environment import library_dir

        if (installed := library_dir() / "libvgpu_isa.so").exists():
            return installed
    except (ImportError, FileNotFoundError):  # the sources are here, so this is a checkout
        pass
    from build import build

    return build()


class Machine:
    """One virtual device. Raises RuntimeError with the interpreter's message when a launch fails."""

    def __init__(self, arch: str, library: Path | None = None):
        self.arch = arch
        self.lib = lib = ctypes.CDLL(str(library or library_path()))
        lib.vgpu_isa_open.restype = ctypes.c_void_p
        lib.vgpu_isa_alloc.restype = ctypes.c_void_p
        lib.vgpu_isa_error.restype = ctypes.c_char_p
        lib.vgpu_isa_kernels.restype = ctypes.c_char_p
        lib.vgpu_isa_opcodes.restype = ctypes.c_char_p
        self.handle = ctypes.c_void_p(lib.vgpu_isa_open(arch.encode()))
        self.images: list[bytes] = []
        self.live: dict[int, Buffer] = {}  # by address

    def error(self) -> str:
        return self.lib.vgpu_isa_error(self.handle).decode()

    def opcodes(self) -> list[tuple[str, int, str, bool]]:
        """(encoding, opcode, mnemonic, executable) of everything the decoder knows."""
        rows = []
        for line in self.lib.vgpu_isa_opcodes(self.arch.encode()).decode().splitlines():
            encoding, opcode, mnemonic, executable = line.split()
            rows.append((encoding, int(opcode), mnemonic, executable == "1"))
        return rows

    def load(self, image: bytes) -> int:
        self.images.append(image)
        module = self.lib.vgpu_isa_load(self.handle, image, ctypes.c_size_t(len(image)))
        if module < 0:
            raise RuntimeError(self.error())
        return module

    def hazards(self) -> list[str]:
        """Those of the latest launch with COLLECT_HAZARDS."""
        self.lib.vgpu_isa_hazards.restype = ctypes.c_char_p
        return self.lib.vgpu_isa_hazards(self.handle).decode().splitlines()

    def executed(self) -> np.ndarray:
        """The instructions that the same launch executed, as dword indices into the module's code."""
        return self._fetch(np.uint64, self.lib.vgpu_isa_executed).astype(np.int64)

    def code(self, module: int) -> np.ndarray:
        """The dwords of the module's code."""
        return self._fetch(np.uint32, self.lib.vgpu_isa_code, module)

    def _fetch(self, dtype: type, function, *args: int) -> np.ndarray:
        function.restype = ctypes.c_size_t
        count = function(self.handle, *args, None, ctypes.c_size_t(0))
        out = np.empty(count, dtype)
        function(self.handle, *args, out.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(count))
        return out

    def poke(self, module: int, index: int, word: int) -> None:
        """Replaces a dword of the module's loaded code."""
        if self.lib.vgpu_isa_poke(self.handle, module, ctypes.c_size_t(index), ctypes.c_uint32(word)):
            raise RuntimeError(self.error())

    def array(self, data: np.ndarray) -> Buffer:
        return Buffer(self, data)

    def launch(
        self,
        module: int,
        kernel: str,
        args: bytes,
        grid=(1, 1, 1),
        block=(64, 1, 1),
        lds: int = 0,
        threads: int = 1,
        checks: int = CHECK_MEMORY,
        limit: int = 0,
    ) -> list[int]:
        three = ctypes.c_uint32 * 3
        counts = (ctypes.c_uint64 * 24)()
        status = self.lib.vgpu_isa_launch(
            self.handle,
            module,
            kernel.encode(),
            three(*grid),
            three(*block),
            ctypes.c_uint32(lds),
            args,
            ctypes.c_size_t(len(args)),
            ctypes.c_uint32(checks),
            ctypes.c_uint32(threads),
            ctypes.c_uint64(limit),
            counts,
        )
        if status:
            raise RuntimeError(self.error())
        return list(counts)


class Buffer:
    """Device memory holding a copy of an array."""

    def __init__(self, machine: Machine, data: np.ndarray):
        data = np.ascontiguousarray(data)
        self.machine, self.dtype, self.shape, self.bytes = machine, data.dtype, data.shape, data.nbytes
        pointer = machine.lib.vgpu_isa_alloc(machine.handle, ctypes.c_size_t(max(data.nbytes, 1)))
        if not pointer:
            raise RuntimeError(machine.error())
        self.pointer = int(pointer)
        ctypes.memmove(self.pointer, data.ctypes.data, data.nbytes)
        machine.live[self.pointer] = self

    def numpy(self) -> np.ndarray:
        out = np.empty(self.shape, self.dtype)
        ctypes.memmove(out.ctypes.data, self.pointer, self.bytes)
        return out

    def fill(self, content: bytes) -> None:
        ctypes.memmove(self.pointer, content, self.bytes)

    def free(self) -> None:
        self.machine.live.pop(self.pointer, None)
        self.machine.lib.vgpu_isa_free(self.machine.handle, ctypes.c_void_p(self.pointer))

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *unused: object) -> None:
        self.free()
