"""A pytest run in a process of its own, on virtual AMD devices."""

import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: flags of XLA by which it records a program's launches, or makes them one by one.
COMMAND_BUFFERS = {
    "off": "--xla_gpu_enable_command_buffer=",
    "on": "--xla_gpu_enable_command_buffer=FUSION,CUSTOM_CALL --xla_gpu_graph_min_graph_size=1",
}


def run(
    python: str, arch: str, *arguments: str, xla_flags: str = "", triton: bool = False, checks: str = "memory"
) -> dict[str, int]:
    """Counts by outcome of a pytest run on two virtual devices that check accesses; fails with its output if it failed.

    triton: kernels of Triton too, recorded and compiled by this process's Python; else there is none.
    """
    import vgpu

    env = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_PLATFORMS", "PYTEST_"))}
    env |= {"XLA_FLAGS": xla_flags, "JAX_PLATFORMS": "rocm,cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    worker = env.pop("JAX_AITER_TRITON_PYTHON", sys.executable)
    if triton:
        env["JAX_AITER_TRITON_PYTHON"] = worker
    elif arch == "gfx950" and re.search("flash|poison", arguments[0]):
        env["VGPU_SLICE"] = "64"  # these overwrite tiles that a slower wave still reads, unless a wave's turn is that long
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = vgpu.run(command, vgpu.Options(arch, 2, checks), env, capture_output=True, text=True, cwd=ROOT)
    print(done.stdout[-2000:])
    if done.returncode:
        pytest.fail(f"{' '.join(command)} on {arch}:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}", pytrace=False)
    reasons = re.findall(r"^SKIPPED \[\d+\] \S+: (.*)$", done.stdout, re.MULTILINE)
    if " passed" not in done.stdout and reasons and all("this release of AITER" in reason for reason in reasons):
        pytest.skip(reasons[0])
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|skipped|xfailed|deselected)", done.stdout)}
    assert counts.get("passed"), done.stdout[-2000:]
    return counts
