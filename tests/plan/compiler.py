"""Builds C++ test programs with the compiler at hand."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
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
    """Compiles the sources, two at a time, and links them. Compiler warnings are errors."""

    def compile_one(source: Path) -> str:
        target = output.parent / f"{source.stem}.{output.name}.o"
        _run("-std=c++17", "-g1", "-Wall", "-Wextra", "-Werror", f"-I{FFI}", *flags, "-c", str(source), "-o", str(target))
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, sources))
    _run(*flags, *objects, "-o", str(output), "-ldl", "-pthread")
    return output


def _run(*arguments: str) -> None:
    # Generous: a shared machine can be very slow, and a hanging compiler is not what is tested.
    done = subprocess.run([compiler(), *arguments], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
