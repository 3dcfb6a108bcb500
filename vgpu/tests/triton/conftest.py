"""Launches Triton kernels, compiled offline, two ways: on the interpreter alone, and as a HIP program does."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "isa")]

pytest.importorskip("triton", reason="needs the triton package")

from compiling import Compiled
from machine import Machine, library_path

import vgpu

Launch = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="session", autouse=True)
def triton_cache(tmp_path_factory: pytest.TempPathFactory):
    """Compiled kernels live in this session's folder: a test must not pass on what an earlier run compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


@pytest.fixture(scope="session")
def machine() -> Callable[[str], Machine]:
    opened: dict[str, Machine] = {}
    library = library_path()
    return lambda arch: opened.setdefault(arch, None) or opened.update({arch: Machine(arch, library)}) or opened[arch]


def argument_block(values: list[tuple[str, Any]]) -> bytes:
    """Kernel arguments by struct code, each at its natural alignment, then Triton's two scratch pointers."""
    packed = b""
    for code, value in [*values, ("Q", 0), ("Q", 0)]:
        packed += bytes(-len(packed) % struct.calcsize(code)) + struct.pack("<" + code, value)
    return packed


def scalar(value: float) -> tuple[str, Any]:
    return ("i", value) if isinstance(value, int) else ("f", value)


def launch_directly(machine: Callable[[str], Machine]) -> Launch:
    def launch(compiled: Compiled, arch: str, grid: tuple[int, ...], *args: Any, threads: int = 2) -> list[np.ndarray]:
        device = machine(arch)
        module = device.load(compiled.image)
        buffers = [device.array(a) if isinstance(a, np.ndarray) else None for a in args]
        values = [("Q", b.pointer) if b else scalar(a) for a, b in zip(args, buffers, strict=True)]
        device.launch(
            module,
            compiled.name,
            argument_block(values),
            grid=(*grid, *[1] * (3 - len(grid))),
            block=(64 * compiled.warps, 1, 1),
            lds=compiled.shared,
            threads=threads,
        )
        results = [b.numpy() for b in buffers if b]
        for b in buffers:
            if b:
                b.free()
        return results

    return launch


def launch_through_hip(folder: Path) -> Launch:
    """hipModuleLoadData, hipMalloc and hipModuleLaunchKernel of the look-alike, in a process of its own under the device."""

    def launch(compiled: Compiled, arch: str, grid: tuple[int, ...], *args: Any, threads: int = 2) -> list[np.ndarray]:
        path = folder / f"{uuid.uuid4().hex}.npz"
        arrays = {f"a{i}": a.reshape(-1).view(np.uint8) for i, a in enumerate(args) if isinstance(a, np.ndarray)}
        numbers = {f"s{i}": np.array(scalar(a)[1], scalar(a)[0]) for i, a in enumerate(args) if not isinstance(a, np.ndarray)}
        np.savez(path, image=np.frombuffer(compiled.image, np.uint8), **arrays, **numbers)
        shape = [compiled.name, *map(str, (*grid, *[1] * (3 - len(grid)), 64 * compiled.warps, compiled.shared))]
        env = {k: v for k, v in os.environ.items() if not k.startswith("VGPU_") or k == "VGPU_LIBRARY_DIR"}
        env |= {"VGPU_THREADS": str(threads), "PYTHONPATH": str(HERE.parent / "hip")}
        command = [sys.executable, str(HERE / "hip_launch.py"), str(path), *shape]
        done = vgpu.run(command, vgpu.Options(arch=arch), env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(path) as after:
            found = [(after[f"a{i}"], a) for i, a in enumerate(args) if isinstance(a, np.ndarray)]
        return [raw.view(a.dtype).reshape(a.shape) for raw, a in found]

    return launch


@pytest.fixture(params=["interpreter", "hip"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Launch:
    """run(compiled, arch, grid, *args): arrays become device buffers, whose contents afterwards are returned."""
    if request.param == "hip":
        return launch_through_hip(tmp_path)
    return launch_directly(request.getfixturevalue("machine"))
