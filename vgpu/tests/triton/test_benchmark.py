"""The benchmark that states the interpreter's speed: its product is right, and its figures are of the launch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks/triton_gemm.py"


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_wave_instructions_per_second_of_an_fp8_product(arch):
    command = [sys.executable, str(PROGRAM), "--arch", arch, "--size", "128", "--threads", "1", "2"]
    done = subprocess.run(command, env=os.environ.copy(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    assert [(row[0], row[1]) for row in rows] == [(t, n) for t in ("64x64x128", "128x128x128") for n in ("1", "2")]
    for _, _, count, seconds, rate, used in rows:
        instructions = int(count.replace(",", ""))
        assert instructions > 1000
        assert float(rate) == pytest.approx(instructions / float(seconds) * 1e-6, rel=0.02)  # three digits of either
        assert float(used) >= 0
    assert rows[0][2] == rows[1][2]  # the threads share the work
    assert rows[2][2] == rows[3][2]
