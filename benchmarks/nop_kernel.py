"""A kernel that does nothing, for each driver: (jax device) -> (code object, arch)."""

import ctypes
from collections.abc import Callable
from typing import Any

from jax_aiter.kernels.mock_driver import code_object

PTX = b"""
.version 7.0
.target sm_52
.address_size 64
.visible .entry nop_kernel(.param .u64 a, .param .u64 b, .param .u64 c,
    .param .u32 i, .param .u32 j, .param .u32 k, .param .u32 l, .param .f32 s)
{
    ret;
}
"""
HIP = b'extern "C" __global__ void nop_kernel(void*, void*, void*, int, int, int, int, float) {}'


def for_cuda(device: Any) -> tuple[bytes, str]:
    return PTX, "sm_" + _capability(device).replace(".", "")  # the driver compiles PTX when loading


def for_hip(device: Any) -> tuple[bytes, str]:
    """Compiled with hiprtc, which comes with ROCm."""
    arch = _capability(device).split(":")[0]
    rtc, program, size = ctypes.CDLL("libhiprtc.so"), ctypes.c_void_p(), ctypes.c_size_t()
    options = (ctypes.c_char_p * 1)(f"--offload-arch={arch}".encode())
    _check(rtc.hiprtcCreateProgram(ctypes.byref(program), HIP, b"nop.hip", 0, None, None), "hiprtcCreateProgram")
    _check(rtc.hiprtcCompileProgram(program, 1, options), "hiprtcCompileProgram")
    _check(rtc.hiprtcGetCodeSize(program, ctypes.byref(size)), "hiprtcGetCodeSize")
    code = ctypes.create_string_buffer(size.value)
    _check(rtc.hiprtcGetCode(program, code), "hiprtcGetCode")
    return code.raw, arch


def _capability(device: Any) -> str:
    return device.compute_capability


def _check(status: int, call: str) -> None:
    if status:
        raise RuntimeError(f"{call} failed with {status}")


def for_mock(device: Any) -> tuple[bytes, str]:
    return code_object("nop_kernel"), "mock"


KERNELS: dict[str, Callable[[Any], tuple[bytes, str]]] = {"cuda": for_cuda, "hip": for_hip, "mock": for_mock}
