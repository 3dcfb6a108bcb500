"""The tests of numbers again, on the code that XLA makes for other processors: what holds here only would fail elsewhere.

XLA contracts products and sums where the processor has FMA, and sizes its vectors by it; `--xla_cpu_max_isa` makes it compile as
if for an older one. By default a sixth of the test functions take part once, on one of two instruction sets (`tests/sampled.py`);
with the mark `exhaustive` all tests run on all of them. It finds comparisons that are too tight, for instance of two programs bit
for bit.
"""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Without FMA, with FMA on vectors of 256 bits (today's processors have more than either); without AVX.
ISAS = ["AVX", "AVX2", "SSE4_2"]
SAMPLED = ISAS[:2]
# Not of XLA's numbers on the CPU: the others' folders are found, so that a new family is among them.
OTHERS = {"asm", "benchmarks", "core", "docs", "examples", "gpu", "hip", "plan", "project", "store", "triton", "virtual"}
FAMILIES = sorted(p.parent.name for p in (ROOT / "tests").glob("*/__init__.py") if p.parent.name not in OTHERS)
LEAST = 20  # tests per run of the sample

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction sets of x86-64")


def run(isa: str, *arguments: str) -> int:
    """How many tests ran, in a process of their own; fails with its output if one of them did."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "XLA_FLAGS"))}
    env["XLA_FLAGS"] = f"--xla_cpu_max_isa={isa}"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.sampled", "--xla", "default", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    print(done.stdout[-2000:])
    if done.returncode:
        pytest.fail(f"on {isa}: {' '.join(command)}\n{done.stdout[-8000:]}\n{done.stderr[-2000:]}", pytrace=False)
    (found,) = re.findall(r"^ran (\d+),", done.stdout, re.M)
    return int(found)


@pytest.mark.timeout(2000)
@pytest.mark.parametrize("isa", SAMPLED)
def test_a_sample(isa):
    assert run(isa, *(f"tests/{f}" for f in FAMILIES), "--sample", f"{ISAS.index(isa)}/{4 * len(ISAS)}") >= LEAST


@pytest.mark.exhaustive
@pytest.mark.timeout(20000)
@pytest.mark.parametrize("family", [*FAMILIES, "examples"])
@pytest.mark.parametrize("isa", ISAS)
def test_everything(isa, family):
    assert run(isa, f"tests/{family}", "-m", "exhaustive or not exhaustive") > 0
