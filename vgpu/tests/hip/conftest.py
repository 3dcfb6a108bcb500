"""Programs that call HIP directly, each in a process of its own under the device."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import vgpu
from vgpu.launcher import DEFAULT

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "isa")]

import assembler
import hip_kernels


@pytest.fixture(scope="session")
def code_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not assembler.available():
        pytest.skip("needs LLVM's assembler and linker (llvm-mc and ld.lld, version 19 or later)")
    path = tmp_path_factory.mktemp("code") / "kernels.co"
    path.write_bytes(assembler.assemble(hip_kernels.source("gfx942"), "gfx942"))
    return path


@pytest.fixture
def program(code_object: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """program(text, options): runs Python text with `from hip import *` before it."""

    def run(text: str, options: vgpu.Options = DEFAULT, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("VGPU_") or k == "VGPU_LIBRARY_DIR"}
        env["KERNELS"] = str(code_object)
        env["PYTHONPATH"] = f"{HERE}{os.pathsep}{env.get('PYTHONPATH', '')}"
        body = "from hip import *\n" + textwrap.dedent(text)
        return vgpu.run([sys.executable, "-c", body], options, env, capture_output=True, text=True, timeout=timeout)

    return run
