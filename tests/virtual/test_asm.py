"""The tests of `tests/asm` on virtual AMD devices: a family's modules in one process, in an environment with JAX's ROCm build.

VGPU_JAX_PYTHON names that environment's Python (`scripts/test.sh` makes one); the device and its interpreter come from the package
`vgpu`. What ran inside is part of each test's output; its last line is shown by ``-rP``.
"""

import importlib.util
import os
import subprocess

import pytest

from .inside import COMMAND_BUFFERS, ROOT, run

MODULES = sorted(p.stem for p in (ROOT / "tests/asm").glob("test_*.py") if not p.stem.endswith(("_launch", "_launches")))
# This one trains and serves the example, on Triton kernels too where they can be compiled: the rest of a model is theirs. It takes
# minutes, and runs with the mark `exhaustive` only.
EXAMPLE = "test_moe_lm"
ONLY_GFX942 = {"test_top_k"}  # what AITER has no kernels of for gfx950
# On gfx950 these run with the mark `exhaustive` only.
THE_SAME = {"test_flash_attention_calls", "test_fused_moe_transforms", EXAMPLE}
TRITON = "JAX_AITER_TRITON_PYTHON" in os.environ or None not in map(importlib.util.find_spec, ("torch", "triton"))
# Quick tests of every family, for what concerns how a plan is run rather than which.
SAMPLE = "test_topk_softmax.py::test_token_counts", "test_gemm_a16w16.py", "test_top_k.py"
# A process takes 6 s until its first call: by default the modules of a family share one.
FAMILIES = {"asm": "moe", "fused": "moe", "topk": "top"}


def by_family(modules: set[str]) -> dict[str, list[str]]:
    """Modules by the first word of their names, or the family that it is of."""
    found: dict[str, list[str]] = {}
    for module in sorted(modules):
        word = module.split("_")[1]
        found.setdefault(FAMILIES.get(word, word), []).append(f"tests/asm/{module}.py")
    return found


GFX942 = by_family({*MODULES} - {EXAMPLE})
GFX950 = by_family({*MODULES} - ONLY_GFX942 - THE_SAME)


@pytest.fixture
def _packages(python, module):
    """What a module needs in the environment with the ROCm plugin."""
    if module == EXAMPLE and subprocess.run([python, "-c", "import click, matplotlib, optax, rich, safetensors"]).returncode:
        pytest.skip("needs the example's packages beside the ROCm plugin: pip install 'jax_aiter[examples]'")


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("family", GFX942)
def test_gfx942(python, family):
    run(python, "gfx942", *GFX942[family])


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("family", GFX950)
def test_gfx950(python, family):
    """Its kernels; not again what is about rules or transforms, nearly all of which gfx942 has as well."""
    run(python, "gfx950", *GFX950[family], "-k", "not (random or refus or vmap or export or devices)")


@pytest.mark.exhaustive
@pytest.mark.timeout(6000)
@pytest.mark.usefixtures("_packages")
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("module", MODULES)
def test_everything(python, module, arch):
    """All that the default run leaves out: every kernel of the tables at more shapes, a hundred random calls per family."""
    if arch == "gfx950" and module in ONLY_GFX942:
        pytest.skip(f"AITER has no kernels of {module} for gfx950")
    run(python, arch, f"tests/asm/{module}.py", "-m", "exhaustive or not exhaustive", triton=TRITON and module == EXAMPLE)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("state", COMMAND_BUFFERS)
def test_command_buffers(python, state):
    run(python, "gfx942", *(f"tests/asm/{name}" for name in SAMPLE), xla_flags=COMMAND_BUFFERS[state])
