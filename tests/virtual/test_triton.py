"""Triton kernels on virtual AMD devices, compiled for them here: a plan of every op, and what reaches no arithmetic (`tests/gpu` is
for real ones)."""

import importlib.util
import os

import pytest

from .inside import run

PLANS = "tests/triton/device"


@pytest.fixture
def _triton():
    if "JAX_AITER_TRITON_PYTHON" not in os.environ and None in map(importlib.util.find_spec, ("torch", "triton")):
        pytest.skip("triton is not installed, so AITER's kernels cannot be recorded")


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("_triton")
def test_what_we_do_ourselves_about_poison(python):
    """Copies without the keys before a window, and without the rows that no expert takes."""
    run(python, "gfx942", "tests/gpu/test_poison.py", "-k", "varlen and window or per_tensor", triton=True)


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("_triton")
def test_no_sequence_writes_into_another(python):
    """Packed sequences without keys: see `glue_lse`."""
    run(python, "gfx942", f"{PLANS}/test_attention_states.py", "-k", "without_keys", triton=True, checks="memory,races")


@pytest.mark.exhaustive
@pytest.mark.timeout(2400)
@pytest.mark.usefixtures("_triton")
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_poison(python, arch):
    run(python, arch, "tests/gpu/test_poison.py", triton=True)


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("_triton")
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_one_call_of_every_op(python, arch):
    assert run(python, arch, PLANS, triton=True)["passed"] >= 15


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("_triton")
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_every_checked_call(python, arch):
    run(python, arch, PLANS, "-m", "exhaustive", triton=True)


@pytest.mark.exhaustive
@pytest.mark.timeout(2400)
@pytest.mark.usefixtures("_triton")
def test_what_breaks_the_rule(python):
    """`TILED` of the transform suite and `hides_nan` of the adapters, which say where kernels of AITER's do not keep it."""
    calls = "flash_attention or (test_results and (quant or fused_moe))"
    arguments = "--implementation", "triton", "-k", calls, "-m", "exhaustive or not exhaustive"
    run(python, "gfx942", "tests/transforms/test_poison.py", *arguments, triton=True)
