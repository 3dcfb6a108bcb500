"""The suite on one implementation (`--implementation triton`): a case that the provider refuses is skipped with its rule."""

import jax
import pytest

from jax_aiter.core.errors import NotSupportedError

DEVICES = {"test_sharding.py": 2, "test_partition.py": 2, "test_meshes.py": 4, "test_mesh_transforms.py": 4}
DEVICES["test_leading_meshes.py"] = 4
# What these ask depends on no device, or is a claim about the CPU's compiler, or needs products of float32 in float32.
ON_A_CPU = {"test_derivatives.py", "test_memory.py", "test_odd_values.py", "test_parameter_objects.py", "test_export_shuffled.py"}
ON_A_CPU.add("test_leading_axes.py")


def pytest_runtest_setup(item):
    needed = DEVICES.get(item.path.name, 1)
    if jax.device_count() < needed:
        pytest.skip(f"needs {needed} devices, there is {jax.device_count()}")
    if item.path.name in ON_A_CPU and jax.default_backend() != "cpu":
        pytest.skip(f"asked of a CPU, this is {jax.default_backend()}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    implementation = item.config.getoption("--implementation")
    try:
        return (yield)
    except NotSupportedError as error:
        if implementation in (None, "xla"):
            raise
        pytest.skip(str(error).splitlines()[0])
    except TypeError as error:
        # Cases are written in the fp8 family of a machine without a GPU (gfx942); another target computes in the other.
        if implementation is None or "computes in float8" not in str(error):
            raise
        pytest.skip(str(error))
