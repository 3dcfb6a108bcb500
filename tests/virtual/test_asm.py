"""The tests of `tests/asm` on virtual AMD devices: each module in a process of its own, in an environment with JAX's ROCm build.

VGPU_JAX_PYTHON names that environment's Python (`scripts/test.sh` makes one); the device and its interpreter come from the package
`vgpu`. What ran inside is part of each test's output; its last line is shown by ``-rP``.
"""

import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.needs import needs_aiter

ROOT = Path(__file__).parents[2]
MODULES = sorted(p.stem for p in (ROOT / "tests/asm").glob("test_*.py") if not p.stem.endswith(("_launch", "_launches")))
ONLY_GFX942 = {"test_top_k"}  # what AITER has no kernels of for gfx950
# On gfx950 these run with the mark `exhaustive` only.
THE_SAME = {"test_flash_attention_calls", "test_fused_moe_transforms", "test_moe_lm"}
COMMAND_BUFFERS = {
    "off": "--xla_gpu_enable_command_buffer=",
    "on": "--xla_gpu_enable_command_buffer=FUSION,CUSTOM_CALL --xla_gpu_graph_min_graph_size=1",
}
# Quick tests of every family, for what concerns how a plan is run rather than which.
SAMPLE = "test_topk_softmax.py::test_token_counts", "test_gemm_a16w16.py", "test_top_k.py"


@pytest.fixture(scope="session")
def python() -> str:
    """The Python that has the ROCm plugin, the product and pytest."""
    needs_aiter()
    if importlib.util.find_spec("vgpu") is None:
        pytest.skip("needs the virtual device: pip install ./vgpu")
    found = os.environ.get("VGPU_JAX_PYTHON")
    if not found:
        pytest.skip("needs an environment with jax-rocm7-plugin: set VGPU_JAX_PYTHON to its Python, see scripts/test.sh")
    subprocess.run([found, "-c", "import jax_plugins.xla_rocm7, pytest, jax_aiter"], check=True, cwd=ROOT)
    return found


def run(python: str, arch: str, *arguments: str, xla_flags: str = "") -> dict[str, int]:
    """Counts by outcome of a pytest run on two virtual devices with memory checks; fails with its output if it failed."""
    import vgpu

    env = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_PLATFORMS", "PYTEST_"))}
    env |= {"XLA_FLAGS": xla_flags, "JAX_PLATFORMS": "rocm,cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    env.pop("JAX_AITER_TRITON_PYTHON", None)
    if arch == "gfx950" and "flash" in arguments[0]:
        env["VGPU_SLICE"] = "64"  # these overwrite tiles that a slower wave still reads, unless a wave's turn is that long
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = vgpu.run(command, vgpu.Options(arch, 2, "memory"), env, capture_output=True, text=True, cwd=ROOT)
    print(done.stdout[-2000:])
    if done.returncode:
        pytest.fail(f"{' '.join(command)} on {arch}:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}", pytrace=False)
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|skipped|xfailed|deselected)", done.stdout)}
    assert counts.get("passed"), done.stdout[-2000:]
    return counts


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("module", MODULES)
def test_gfx942(python, module):
    run(python, "gfx942", f"tests/asm/{module}.py")


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("module", sorted(set(MODULES) - ONLY_GFX942 - THE_SAME))
def test_gfx950(python, module):
    """Its kernels; not again what is about rules or transforms, nearly all of which gfx942 has as well."""
    run(python, "gfx950", f"tests/asm/{module}.py", "-k", "not (random or refus or vmap or export or devices)")


@pytest.mark.exhaustive
@pytest.mark.timeout(6000)
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("module", MODULES)
def test_everything(python, module, arch):
    """All that the default run leaves out: every kernel of the tables at more shapes, a hundred random calls per family."""
    if arch == "gfx950" and module in ONLY_GFX942:
        pytest.skip(f"AITER has no kernels of {module} for gfx950")
    run(python, arch, f"tests/asm/{module}.py", "-m", "exhaustive or not exhaustive")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("state", COMMAND_BUFFERS)
def test_command_buffers(python, state):
    run(python, "gfx942", *(f"tests/asm/{name}" for name in SAMPLE), xla_flags=COMMAND_BUFFERS[state])
