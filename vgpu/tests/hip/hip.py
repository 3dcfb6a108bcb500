"""A thin ctypes layer over libamdhip64 for the programs that the tests run under the device."""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_int, c_size_t, c_uint, c_uint32, c_void_p

import numpy as np

lib = ctypes.CDLL("libamdhip64.so.7")
lib.hipGetErrorName.restype = ctypes.c_char_p

INVALID_VALUE, OUT_OF_MEMORY, LAUNCH_FAILURE = 1, 2, 719
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED = 900, 901
CAPTURE_GLOBAL, CAPTURE_THREAD_LOCAL, CAPTURE_RELAXED = 0, 1, 2


class HipError(Exception):
    def __init__(self, name: str, code: int):
        text = ctypes.create_string_buffer(8192)
        lib.vgpuGetLastErrorMessage(text, c_size_t(len(text)))
        super().__init__(f"{name}: {lib.hipGetErrorName(code).decode()}: {text.value.decode()}")
        self.code = code


def call(name: str, *arguments) -> None:
    if code := getattr(lib, name)(*arguments):
        raise HipError(name, code)


def code_of(name: str, *arguments) -> int:
    return getattr(lib, name)(*arguments)


def malloc(size: int) -> int:
    pointer = c_void_p()
    call("hipMalloc", byref(pointer), c_size_t(size))
    return pointer.value


def handle(create: str, *arguments) -> c_void_p:
    out = c_void_p()
    call(create, byref(out), *arguments)
    return out


def stream() -> c_void_p:
    return handle("hipStreamCreateWithFlags", c_uint(1))


def event() -> c_void_p:
    return handle("hipEventCreateWithFlags", c_uint(2))


def upload(array: np.ndarray) -> int:
    pointer = malloc(array.nbytes)
    call("hipMemcpyHtoD", c_void_p(pointer), array.ctypes.data_as(c_void_p), c_size_t(array.nbytes))
    return pointer


def download(pointer: int, count: int, dtype=np.int32) -> np.ndarray:
    array = np.empty(count, dtype)
    call("hipMemcpyDtoH", array.ctypes.data_as(c_void_p), c_void_p(pointer), c_size_t(array.nbytes))
    return array


def function(name: str) -> c_void_p:
    with open(os.environ["KERNELS"], "rb") as file:
        image = file.read()
    module, found = c_void_p(), c_void_p()
    call("hipModuleLoadData", byref(module), image)
    call("hipModuleGetFunction", byref(found), module, name.encode())
    return found


def params(out: int, source: int, n: int, value: int) -> ctypes.Array:
    """kernelParams; the array keeps the values alive."""
    values = [c_void_p(out), c_void_p(source), c_uint32(n), c_uint32(value)]
    array = (c_void_p * 4)(*[ctypes.cast(byref(v), c_void_p) for v in values])
    array.values = values
    return array


def launch(kernel: c_void_p, out: int, source: int, n: int, value: int, on: c_void_p | None = None) -> None:
    blocks = (n + 63) // 64
    call("hipModuleLaunchKernel", kernel, *map(c_uint, (blocks, 1, 1, 64, 1, 1, 0)), on, params(out, source, n, value), None)


def launch_buffer(kernel: c_void_p, out: int, source: int, n: int, value: int) -> None:
    """The same with HIP_LAUNCH_PARAM_BUFFER_POINTER."""
    block = np.array([out & 0xFFFFFFFF, out >> 32, source & 0xFFFFFFFF, source >> 32, n, value], np.uint32)
    size = c_size_t(block.nbytes)
    extra = (c_void_p * 5)(1, block.ctypes.data, 2, ctypes.cast(byref(size), c_void_p).value, 3)
    call("hipModuleLaunchKernel", kernel, *map(c_uint, ((n + 63) // 64, 1, 1, 64, 1, 1, 0)), None, None, extra)


__all__ = [name for name in dir() if not name.startswith("_")] + ["c_int"]
