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
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_expert_parallel_by_every_way(python, arch):
    run(python, arch, "tests/gpu/test_expert_parallel.py", "-k", "reference")
