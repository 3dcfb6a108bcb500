"""How long AITER's kernels take on the interpreter at the sizes of `tests/aiter`, on one thread: the slowest ones, and the median.

python vgpu/benchmarks/aiter_kernels.py        needs AITER, registered with `jax-aiter kernels add`, numpy and pytest
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1]
SHOWN = 5


def main() -> None:
    sys.path[:0] = [str(FOLDER / "tests" / name) for name in ("aiter", "isa")]
    import launching

    launching.CHECKS = 1  # memory alone, as under `vgpu run`
    tests = [str(p) for p in sorted((FOLDER / "tests/aiter").glob("test_*.py")) if p.stem != "test_disassembly"]
    status = pytest.main(["-q", "-c", str(FOLDER / "pyproject.toml"), f"--rootdir={FOLDER}", "-p", "no:cacheprovider", *tests])
    if status:
        raise SystemExit(status)
    found = sorted(launching.SECONDS, key=lambda launch: -launch[1])
    if not found:
        raise SystemExit("nothing was launched: AITER's files are not registered")
    for kernel, seconds, instructions in found[:SHOWN]:
        print(f"{seconds:7.3f} s {instructions:9,} instructions  {kernel}")
    print(f"{len(found)} launches, median {statistics.median(seconds for _, seconds, _ in found):.3f} s")


if __name__ == "__main__":
    main()
