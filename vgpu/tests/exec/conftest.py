"""Tests of the interpreter as a machine: checks, scheduling, counts. They assemble their own kernels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "isa")]

import assembler
from machine import Machine, library_path


@pytest.fixture(scope="session")
def library() -> Path:
    if not assembler.available():
        pytest.skip("needs LLVM's assembler and linker (llvm-mc and ld.lld, version 19 or later)")
    return library_path()


@pytest.fixture
def machine(library) -> Machine:
    return Machine("gfx942", library)
