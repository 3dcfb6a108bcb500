"""The same recorded kernels without XLA: a plan's steps launched through the CUDA driver on torch's memory and stream."""

from __future__ import annotations

import ctypes
import functools
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from jax_aiter.kernels.args import KernelArgs
from jax_aiter.kernels.plan import Copy, Fill, Launch, LaunchPlan, Step


class Driver:
    """The few CUDA driver calls needed; every error raises."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libcuda.so.1")
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder, "launcher.so")
            source = Path(__file__).with_name("launcher.c")
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(source), "-o", str(built)], check=True)
            self._loop = ctypes.CDLL(str(built)).launch_many
        self._loop.restype = ctypes.c_double
        self._launch = ctypes.cast(self._lib.cuLaunchKernel, ctypes.c_void_p)

    def call(self, name: str, *args: Any) -> None:
        code = getattr(self._lib, name)(*args)
        if code:
            raise RuntimeError(f"{name} failed with CUDA error {code}")

    def function(self, code: bytes, symbol: str, shared: int) -> ctypes.c_void_p:
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), code)
        self.call("cuModuleGetFunction", ctypes.byref(function), module, symbol.encode())
        if shared > 48 << 10:
            self.call("cuFuncSetAttribute", function, 8, shared)
        return function

    def copy(self, target: int, source: int, nbytes: int, stream: int = 0) -> None:
        """Starts a copy on the device."""
        numbers = (ctypes.c_uint64(n) for n in (target, source, nbytes))
        self.call("cuMemcpyDtoDAsync_v2", *numbers, ctypes.c_void_p(stream))

    def launch(self, function, grid, block, shared: int, args: bytes, stream: int, count: int = 1) -> float:
        """Host seconds for `count` launches."""
        dims = (ctypes.c_uint * 6)(*grid, *block)
        buffer = ctypes.create_string_buffer(args, len(args))
        seconds = self._loop(
            self._launch, function, dims, shared, ctypes.c_void_p(stream), buffer, ctypes.c_uint64(len(args)), count
        )
        if seconds < 0:
            raise RuntimeError(f"cuLaunchKernel failed with CUDA error {int(-seconds)}")
        return seconds


@functools.cache
def driver() -> Driver:
    return Driver()


class Replay:
    """One plan: operands at given device addresses, results and scratch in torch's memory, on torch's streams."""

    def __init__(self, plan: LaunchPlan, operands: list[int], driver: Driver) -> None:
        import torch

        self._torch, self._driver, given = torch, driver, iter(operands)
        sizes = [max(buffer.nbytes, 1) for buffer in plan.buffers if buffer.kind != "operand"]
        self._own = [torch.empty(size, dtype=torch.uint8, device="cuda") for size in sizes]  # kept alive
        own = iter(tensor.data_ptr() for tensor in self._own)
        self._addresses = [next(given if buffer.kind == "operand" else own) for buffer in plan.buffers]
        self._steps = [self._prepared(step) for step in plan.steps]

    def _prepared(self, step: Step):
        if isinstance(step, (Fill, Copy)):
            return step
        if not isinstance(step, Launch):
            raise TypeError(f"only launches, fills and copies are replayed, not {type(step).__name__}")
        function = self._driver.function(step.code.data, step.symbol, step.shared_bytes)
        return step, function, bound_args(step.args, self._addresses)

    def run(self, stream: int) -> None:
        for step in self._steps:
            if isinstance(step, Fill):
                self._fill(step, stream)
            elif isinstance(step, Copy):
                self._copy(step, stream)
            else:
                launch, function, args = step
                self._driver.launch(function, launch.grid, launch.block, launch.shared_bytes, args, stream)

    def _copy(self, step: Copy, stream: int) -> None:
        source = self._addresses[step.src] + step.src_offset
        target = self._addresses[step.dst] + step.dst_offset
        self._driver.copy(target, source, step.nbytes, stream)

    def _fill(self, step: Fill, stream: int) -> None:
        name = {1: "cuMemsetD8Async", 2: "cuMemsetD16Async", 4: "cuMemsetD32Async"}[step.width]
        at = ctypes.c_uint64(self._addresses[step.buffer] + step.byte_offset)
        value = ctypes.c_uint(step.value)
        self._driver.call(name, at, value, ctypes.c_size_t(step.nbytes // step.width), ctypes.c_void_p(stream))

    def host_seconds_per_launch(self, count: int = 2000) -> float:
        """Host time of a bare driver launch in a loop; NaN for a plan of several kernels.

        A kernel that counts into memory which an earlier step zeroes (MoE's alignment) may not be repeated on its own: its counts,
        and then its addresses, would run out of bounds.
        """
        kernels = [step for step in self._steps if isinstance(step, tuple)]
        if len(self._steps) != 1 or len(kernels) != 1:
            return float("nan")
        return self._host_seconds(kernels[0], self._torch.cuda.current_stream().cuda_stream, count)

    def _host_seconds(self, step, stream: int, count: int, burst: int = 200) -> float:
        launch, function, args = step
        times = []
        for _ in range(max(2, count // burst)):
            self._torch.cuda.synchronize()  # bursts are short, so that the launch queue never fills and waits
            seconds = self._driver.launch(function, launch.grid, launch.block, launch.shared_bytes, args, stream, burst)
            times.append(seconds / burst)
        return statistics.median(times[1:])


def bound_args(args: KernelArgs, addresses: list[int]) -> bytes:
    """The argument block with the buffers' addresses filled in."""
    block = bytearray(args.blob)
    for pointer in args.pointers:
        block[pointer.offset : pointer.offset + 8] = (addresses[pointer.buffer] + pointer.byte_offset).to_bytes(8, "little")
    return bytes(block)
