"""HIP kernels on virtual AMD devices, compiled here from the release of AITER that is installed."""

import importlib.util
import os

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.build import compilers

from .inside import COMMAND_BUFFERS, run

DEVICE = "tests/hip/device"


@pytest.fixture
def _compiler():
    if "JAX_AITER_TRITON_PYTHON" not in os.environ and importlib.util.find_spec("triton") is None:
        pytest.skip("needs Triton's wheel, whose HIP headers AITER's sources are compiled with")
    try:
        compilers.find()
    except KernelBuildError as error:
        pytest.skip(str(error))


# AITER's rope alone takes its compiler 20 s: that of one tensor, which the example on gfx942 takes too. Its moe_sorting and
# topk_sigmoid, which take 30 s each, are left to `test_every_instance`.
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("_compiler")
def test_gfx942(python):
    """A call of each op, and what programs do with them; with command buffers, which record the launches."""
    ops = "not rope_2c and not moe_sorting and not topk_sigmoid"
    assert run(python, "gfx942", DEVICE, "-k", ops, triton=True, xla_flags=COMMAND_BUFFERS["on"])["passed"] >= 53


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("_compiler")
def test_gfx950(python):
    chosen = "silu_and_mul or group_quant or (two_calls and (paged or concat))"
    assert run(python, "gfx950", DEVICE, "-k", chosen, triton=True)["passed"] >= 8


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_every_instance(python, arch):
    run(python, arch, DEVICE, "-m", "exhaustive or not exhaustive", triton=True, xla_flags=COMMAND_BUFFERS["off"])


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_programs_in_command_buffers(python, arch):
    """Every op by itself, in a batch, and in a program that is exported and loaded: `test_every_instance` is without them."""
    chosen = "two_calls or batch or exported or donated or in_place"
    run(python, arch, DEVICE, "-m", "exhaustive or not exhaustive", "-k", chosen, triton=True, xla_flags=COMMAND_BUFFERS["on"])
