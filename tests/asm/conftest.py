"""AITER's hand-written kernels through the public ops, on the device this process sees: a virtual gfx942 or gfx950, or a real one.

vgpu run --check=memory -- python -m pytest tests/asm            # --arch gfx950 for the other one
"""

import contextlib
import os
from pathlib import Path

import jax
import pytest

from jax_aiter.bind.partition import gpu_plugin_installed
from jax_aiter.core.arch import arch_of
from jax_aiter.core.config import config
from jax_aiter.kernels.known import AITER_COMMIT
from tests.needs import needs_aiter, skip_without_aiter
from tests.needs import skip_what_a_release_lacks as pytest_runtest_call  # noqa: F401 a hook by its name

from . import common

# The waves of a real workgroup advance side by side, and AITER's kernels count on it: what one wave prefetches into LDS, another
# may still be reading or writing. The virtual device does as real ones do when a wave's turn is short.
os.environ.setdefault("VGPU_SLICE", "16")

WITHOUT_DEVICE = ("_launch", "_launches")

if not gpu_plugin_installed():  # on a plain machine `tests/virtual` runs them; here they would all skip
    collect_ignore = [p.name for p in Path(__file__).parent.glob("test_*.py") if not p.stem.endswith(WITHOUT_DEVICE)]


@pytest.fixture(scope="session")
def _files():
    needs_aiter("hsa")


@pytest.fixture(scope="session")
def _commit(_files):
    if common.release() != AITER_COMMIT:
        skip_without_aiter(f"of commit {AITER_COMMIT}, here is {common.release()}")


@pytest.fixture(scope="session")
def _device(_files):
    if arch_of(jax.devices()[0]) not in ("gfx942", "gfx950"):
        pytest.skip("needs a gfx942 or gfx950 device: run under `vgpu run`")


@pytest.fixture(autouse=True)
def _run_on_a_device(request):
    """All tests here run kernels, but for those that only look at plans: the modules called ``test_..._launch(es)``."""
    request.getfixturevalue("_files" if request.module.__name__.endswith(WITHOUT_DEVICE) else "_device")


@pytest.fixture(autouse=True)
def _of_hand_written_code_alone(request):
    """Nothing is compiled, but for the example: what AITER's HIP kernels do before a hand-written one is `tests/hip/device`'s."""
    with contextlib.nullcontext() if request.module.__name__.endswith("_moe_lm") else config(build=False):
        yield


@pytest.fixture(scope="session")
def arch(_device) -> str:
    return str(arch_of(jax.devices()[0]))


def pytest_sessionfinish(session):
    common.write_record()
