"""Builds C++ test programs with the compiler at hand."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FFI = ROOT / "ffi"
CPP = Path(__file__).parent / "cpp"


def compiler() -> str:
    """The C++ compiler, which building the package needs anyway; tests that want one skip without."""
    found = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("no C++ compiler")
    return found


def build(output: Path, sources: list[Path], *flags: str) -> Path:
    command = [compiler(), "-std=c++17", "-g", "-Wall", "-Wextra", f"-I{FFI}", *flags, *map(str, sources), "-o", str(output)]
    done = subprocess.run([*command, "-ldl", "-pthread"], capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr
    return output
