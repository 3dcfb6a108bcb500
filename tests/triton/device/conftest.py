"""AITER's Triton kernels on the device this process sees: a virtual gfx942 or gfx950 (`tests/virtual`), or a real one.

vgpu run -- python -m pytest tests/triton/device
"""

import jax
import pytest

from jax_aiter.bind.partition import gpu_plugin_installed
from jax_aiter.core.arch import arch_of
from jax_aiter.kernels.spec import ARCHS
from tests.needs import needs_aiter
from tests.needs import skip_what_a_release_lacks as pytest_runtest_call  # noqa: F401 a hook by its name

if not gpu_plugin_installed():  # on a plain machine `tests/virtual` runs them; here they would all skip
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def arch() -> str:
    needs_aiter()
    found = str(arch_of(jax.devices()[0]))
    if found not in ARCHS:
        pytest.skip(f"needs a device of {', '.join(ARCHS)}: run under `vgpu run`")
    return found
