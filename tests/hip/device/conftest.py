"""AITER's HIP kernels on the device this process sees: a virtual gfx942 or gfx950 (`tests/virtual`), or a real one.

vgpu run -- python -m pytest tests/hip/device
"""

import jax
import pytest

from jax_aiter.bind.partition import gpu_plugin_installed
from jax_aiter.core.arch import arch_of
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.kernels.hip.provider import ARCHS
from tests.needs import needs_aiter

from .ran import write_record

if not gpu_plugin_installed():  # on a plain machine `tests/virtual` runs them; here they would all skip
    collect_ignore_glob = ["test_*.py"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """What a release of AITER lacks, and a machine without a compiler, are said by the refusal."""
    try:
        return (yield)
    except NotSupportedError as error:
        if "this release of AITER" not in str(error) and "cannot be compiled" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def arch() -> str:
    needs_aiter()
    found = str(arch_of(jax.devices()[0]))
    if found not in ARCHS:
        pytest.skip(f"needs a device of {', '.join(ARCHS)}: run under `vgpu run`")
    return found


def pytest_sessionfinish():
    write_record()
