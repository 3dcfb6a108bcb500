"""Layers over two virtual AMD devices: XLA's ROCm collectives, and what they call of RCCL."""

import pytest

from .inside import run


# XLA ends the process where a device waits for another for too long, as one does on a processor that others use: not by default.
@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_expert_parallel(python):
    """Rows by ragged_all_to_all, any routing, output and gradients."""
    run(python, "gfx942", "tests/gpu/test_expert_parallel.py", "-k", "reference and 2 and exchange")


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_a_language_model_over_two_devices(python):
    """Experts spread, and heads and columns split, by references and on AITER's kernels: the tokens of one device."""
    run(python, "gfx942", "tests/gpu/test_llm_distributed.py", triton=True)


@pytest.mark.exhaustive
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_expert_parallel_by_every_way(python, arch):
    run(python, arch, "tests/gpu/test_expert_parallel.py", "-k", "reference")


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_tensor_parallel(python, arch):
    """Sums with a norm, and products whose rows go round a ring or through one collective."""
    run(python, arch, "tests/gpu/test_tensor_parallel.py")
