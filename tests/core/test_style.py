"""Lint, types, and the project's own rules of layout."""

import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("jax_aiter", "ffi", "examples", "benchmarks", "scripts", "tests")
SUFFIXES = {".py", ".cc", ".cpp", ".h", ".c"}
FILES = [p for f in (*FOLDERS, "vgpu") for p in (ROOT / f).rglob("*") if p.suffix in SUFFIXES and "build" not in p.parts]


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, timeout=500)


def test_ruff():
    done = run("ruff", "check", *FOLDERS[:1], *FOLDERS[2:])
    assert done.returncode == 0, done.stdout


def test_pyright():
    done = run("pyright", "--pythonpath", sys.executable)
    assert done.returncode == 0, done.stdout


def test_no_file_over_400_lines():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_median_file_is_at_most_150_lines():
    assert statistics.median(len(p.read_text().splitlines()) for p in FILES) <= 150
