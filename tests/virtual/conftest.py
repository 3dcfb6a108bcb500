"""The environment whose JAX sees virtual AMD devices."""

import importlib.util
import os
import subprocess

import pytest

from tests.needs import needs_aiter

from .inside import ROOT


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
