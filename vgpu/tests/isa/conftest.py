"""Shared fixtures; puts this folder on the path, whose modules (pcode, assembler, machine ...) the tests share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import assembler
from machine import Machine, library_path


@pytest.fixture(scope="session")
def machines() -> Callable[[str], Machine]:
    """machines("gfx942"): one virtual device per architecture and session."""
    if not assembler.available():
        pytest.skip("needs LLVM's assembler and linker (llvm-mc and ld.lld, version 19 or later)")
    library, opened = library_path(), {}

    def get(arch: str) -> Machine:
        if arch not in opened:
            opened[arch] = Machine(arch, library)
        return opened[arch]

    return get
