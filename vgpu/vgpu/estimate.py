"""Estimates of a launch's time on a device, from a sample of its workgroups run on the interpreter. No HIP, no JAX."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from typing import Any

from vgpu.devices import Device
from vgpu.environment import library_dir

MOST_INSTRUCTIONS = 200_000_000
Estimate = dict[str, Any]


class Bench:
    """The interpreter with memory and code objects, for estimates alone: what a launch leaves in memory is nothing to rely on."""

    def __init__(self, arch: str):
        self._lib = lib = ctypes.CDLL(str(library_dir() / "libvgpu_isa.so"))
        lib.vgpu_isa_open.restype = lib.vgpu_isa_alloc.restype = ctypes.c_void_p
        lib.vgpu_isa_error.restype = lib.vgpu_isa_estimate.restype = lib.vgpu_isa_sample_estimate.restype = ctypes.c_char_p
        lib.vgpu_isa_sample.restype = ctypes.c_void_p
        self._handle = ctypes.c_void_p(lib.vgpu_isa_open(arch.encode()))
        self._modules: dict[bytes, int] = {}

    def _failed(self) -> RuntimeError:
        return RuntimeError(self._lib.vgpu_isa_error(self._handle).decode())

    def load(self, image: bytes) -> int:
        """The number of a code object, loaded once."""
        if image not in self._modules:
            module = self._lib.vgpu_isa_load(self._handle, image, ctypes.c_size_t(len(image)))
            if module < 0:
                raise self._failed()
            self._modules[image] = module
        return self._modules[image]

    def allocate(self, size: int, content: bytes = b"") -> int:
        """Address of zeroed memory that begins with `content`. What is not touched takes none of the host's."""
        pointer = self._lib.vgpu_isa_alloc(self._handle, ctypes.c_size_t(max(size, 1)))
        if not pointer:
            raise self._failed()
        ctypes.memmove(pointer, content, len(content))
        return pointer

    def free(self, pointer: int) -> None:
        self._lib.vgpu_isa_free(self._handle, ctypes.c_void_p(pointer))

    def estimate(
        self,
        device: Device,
        module: int,
        kernel: str,
        kernarg: bytes,
        grid: Sequence[int],
        block: Sequence[int],
        *,
        shared_bytes: int = 0,
        samples: int = 2,
        limit: int = MOST_INSTRUCTIONS,
    ) -> Estimate:
        """Microseconds ("us") and what they are made of.

        samples: workgroups to trace; neighbours of the first, by which shared memory is found, come on top. limit: instructions.
        Raises RuntimeError with the interpreter's words when the kernel fails or the table is not understood.
        """
        three = ctypes.c_uint32 * 3
        text = self._lib.vgpu_isa_estimate(
            self._handle, module, kernel.encode(), three(*grid), three(*block), ctypes.c_uint32(shared_bytes), kernarg,
            ctypes.c_size_t(len(kernarg)), device.text().encode(), ctypes.c_uint32(samples), ctypes.c_uint64(limit),
        )  # fmt: skip
        return self._read(text)

    def _read(self, text: bytes) -> Estimate:
        if not text:
            raise self._failed()
        return json.loads(text)

    def sample(self) -> Sample:
        """What the latest estimate was made from, for other devices of the same architecture."""
        handle = self._lib.vgpu_isa_sample(self._handle)
        if not handle:
            raise RuntimeError("there has been no estimate since the last sample was taken")
        return Sample(self, handle)

    def close(self) -> None:
        self._lib.vgpu_isa_close(self._handle)


class Sample:
    """Traces of a launch's sample. Freed with the object."""

    def __init__(self, bench: Bench, handle: int):
        self._bench, self._handle = bench, ctypes.c_void_p(handle)

    def estimate(self, device: Device) -> Estimate:
        return self._bench._read(
            self._bench._lib.vgpu_isa_sample_estimate(self._bench._handle, self._handle, device.text().encode())
        )

    def __del__(self) -> None:
        self._bench._lib.vgpu_isa_sample_free(self._handle)
