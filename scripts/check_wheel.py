"""What a user of a wheel meets: a fresh environment, a new HOME, no compiler, and the quick start of the docs as it is written.

    python3.14 scripts/check_wheel.py repaired/jax_aiter-*.whl     # in an environment of the CPython that runs this
    python3.14 scripts/check_wheel.py repaired/vgpu-*.whl

Prints what it found, as JSON. Needs nothing beside the standard library, so that it runs where only a wheel and a checkout are.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.docs import blocks  # noqa: E402

COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "cmake", "ninja")
#: processor seconds of the import alone: jax is imported before the clock starts.
COST = "import jax, time; t = time.process_time(); import jax_aiter; print(time.process_time() - t)"
HANDLER = "from jax_aiter.kernels import _native; print(_native.register().available)"


class Fresh:
    """A virtual environment of this interpreter with a wheel in it, an empty HOME, and on PATH nothing but its own programs."""

    def __init__(self, folder: Path, *needs: str) -> None:
        venv.create(folder / "venv", with_pip=True)
        (folder / "home").mkdir()
        self.folder, self.bin = folder, folder / "venv/bin"
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
        self.environment = {"HOME": str(folder / "home"), "PATH": str(self.bin), "JAX_PLATFORMS": "cpu", **kept}
        found = [tool for tool in COMPILERS if shutil.which(tool, path=self.environment["PATH"])]
        assert not found, f"compilers in a fresh environment: {found}"
        self.run("python", "-I", "-m", "pip", "install", "-q", *needs)

    def run(self, program: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [str(self.bin / program), *arguments]
        done = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == code, f"{command[:6]}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done

    def version(self, package: str) -> str:
        return self.run("python", "-c", f"import {package}; print({package}.__version__)").stdout.strip()


def jax_aiter(wheel: Path, folder: Path) -> dict[str, Any]:
    """The Python blocks of docs/start/laptop.md, `doctor`, the launch handler, and the cost of the import."""
    fresh = Fresh(folder, f"{wheel}[cli]")
    page = [b for b in blocks.of(ROOT / "docs/start/laptop.md") if b.kind == "python" and not b.mark]
    assert len(page) >= 3, "the page has lost its blocks"
    said = fresh.run("python", "-I", "-W", "error", "-c", "\n".join(b.code for b in page)).stdout
    assert blocks.agrees("".join(b.prints or "" for b in page), said), said
    assert fresh.run("python", "-I", "-c", HANDLER).stdout == "True\n"
    doctor = fresh.run("jax-aiter", "doctor", code=1).stdout  # 1: everything on references here
    assert "launch handler  ready" in doctor, doctor
    costs = sorted(float(fresh.run("python", "-I", "-c", COST).stdout) for _ in range(5))
    return {"import_ms": round(1e3 * statistics.median(costs), 1), "jax": fresh.version("jax")}


def vgpu(wheel: Path, folder: Path) -> dict[str, Any]:
    """docs/develop/virtual.md: the faulty kernel is found, the mended one passes."""
    fresh = Fresh(folder, str(wheel), "numpy", "triton")
    page = blocks.of(ROOT / "docs/develop/virtual.md")
    (program,) = [b for b in page if b.mark.startswith("virtual: ")]
    (shown,) = [b for b in page if b.mark == "virtual"]
    name = program.mark.partition(": ")[2]
    (folder / name).write_text(program.code)
    command, _, said = shown.code.partition("\n")
    first, *rest = command.removeprefix("$ ").split()
    found = fresh.run(first, *rest, code=1).stderr
    assert blocks.agrees(said, found[found.find("[vgpu]") :]), found  # before it stand warnings of Triton's, by its version
    (folder / name).write_text(blocks.mended(program.code))
    assert fresh.run(first, *rest).stdout == "every access was in bounds\n"
    return {"triton": fresh.version("triton")}


def main(wheel: Path) -> dict[str, Any]:
    check = {"jax_aiter": jax_aiter, "vgpu": vgpu}[wheel.name.partition("-")[0]]
    with tempfile.TemporaryDirectory() as folder:
        found = check(wheel.resolve(), Path(folder))
    return {"wheel": wheel.name, "python": sys.version.split()[0], "bytes": wheel.stat().st_size, **found}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
