"""Compiles the semantic functions into a shared object of their own, once per session."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parent.parent / "src"
sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def shim(once: Callable[[str, Callable[[Path], None]], Path]) -> ctypes.CDLL:
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler is None:
        pytest.skip("needs a C++17 compiler")
    march = ["-march=x86-64-v3"] if platform.machine() == "x86_64" else []
    files = [HERE / "shim.cc", *sorted((SOURCES / "sem").glob("*.cc"))]
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared", f"-I{SOURCES}"]

    def compile_to(out: Path) -> None:
        subprocess.run([compiler, *flags, *march, *map(str, files), "-o", str(out)], check=True)

    return ctypes.CDLL(str(once("sem.so", compile_to)))


@pytest.fixture(scope="session")
def apply(shim: ctypes.CDLL) -> Callable[..., np.ndarray]:
    """apply("exp_f32", np.uint32, x, ...) runs the mapped function over equally long arrays."""

    def call(name: str, result: type, *arrays: np.ndarray) -> np.ndarray:
        arrays = tuple(np.ascontiguousarray(a) for a in np.broadcast_arrays(*arrays))
        out = np.empty(arrays[0].shape, result)
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in arrays]
        getattr(shim, name + "_map")(*pointers, out.ctypes.data_as(ctypes.c_void_p), ctypes.c_long(out.size))
        return out

    return call
