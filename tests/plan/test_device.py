"""The handler on a GPU: fills and copies on any, kernels given as PTX on NVIDIA. Skipped where jax has no GPU.

pytest tests/plan/test_device.py
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from jax_aiter.kernels.args import Pointer, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.plan import LaunchPlan
from tests.plan import ptx
from tests.plan.samples import u32


def platform() -> str:
    version = jax.devices()[0].client.platform_version.lower()
    return "cuda" if "cuda" in version else "rocm" if "rocm" in version else "cpu"


pytestmark = pytest.mark.skipif(platform() == "cpu", reason="needs a GPU")
on_nvidia = pytest.mark.skipif(platform() != "cuda", reason="PTX kernels need an NVIDIA GPU")


def arch() -> str:
    capability = str(jax.devices()[0].compute_capability)
    return capability.split(":")[0] if platform() == "rocm" else "sm_" + capability.replace(".", "")


def fill_and_copy_plan(n: int) -> LaunchPlan:
    """x with its last element replaced by the bytes 01 02 03 04."""
    b = PlanBuilder("fill_and_copy", arch())
    x, out, tmp = b.operand(4 * n, 4, "x"), b.result(4 * n, 16, "out"), b.scratch(64)
    b.fill(tmp, 0x04030201, width=4)
    b.copy(out, x)
    b.copy(out, tmp, nbytes=4, dst_offset=4 * (n - 1), src_offset=8)
    return b.build()


def add_plan(n: int, constant: int) -> LaunchPlan:
    b = PlanBuilder("add", arch())
    x, out, tmp = b.operand(4 * n, 4, "x"), b.result(4 * n, 4, "out"), b.scratch(4 * n)
    b.fill(tmp, constant, width=4)
    args = [Pointer(out), Pointer(x), Pointer(tmp), Scalar("u32", n)]
    b.launch(ptx.ADD, "add_u32", [-(-n // 128)], [128], 0, args)
    return b.build()


def run(plan: LaunchPlan, x: jax.Array) -> jax.Array:
    return call_plan(plan, x, result_shape_dtypes=[jax.ShapeDtypeStruct(x.shape, x.dtype)])[0]


def filled(n: int) -> np.ndarray:
    return np.append(np.arange(n - 1, dtype=np.uint32), np.uint32(0x04030201))


def test_fill_and_copy():
    np.testing.assert_array_equal(jax.jit(lambda x: run(fill_and_copy_plan(100), x))(u32(100)), filled(100))


def test_every_device():
    f = jax.jit(lambda x: run(fill_and_copy_plan(100), x))
    for device in jax.devices():
        y = f(jax.device_put(u32(100), device))
        assert y.devices() == {device}
        np.testing.assert_array_equal(y, filled(100))


@on_nvidia
@pytest.mark.parametrize("n", [1, 127, 128, 129, 100_000])
def test_kernel(n):
    np.testing.assert_array_equal(jax.jit(lambda x: run(add_plan(n, 7), x))(u32(n)), np.arange(n) + 7)


@on_nvidia
def test_many_runs_and_threads_use_no_more_memory():
    n = 4096
    f = jax.jit(lambda x: run(add_plan(n, 1), x))
    x = f(u32(n)).block_until_ready()
    before = jax.devices()[0].memory_stats()["bytes_in_use"]

    def work(_: int) -> None:
        y = x
        for _ in range(250):
            y = f(y)
        np.testing.assert_array_equal(y, np.arange(n) + 251)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert jax.devices()[0].memory_stats()["bytes_in_use"] == before


@on_nvidia
@pytest.mark.parametrize("shared", [1024, 49152, 49168, 98304])
def test_dynamic_shared_memory_above_the_default(shared):
    b = PlanBuilder("shared", arch())
    b.operand(4, 4)
    out = b.result(4, 4)
    args = [Pointer(out), Scalar("u32", shared - 4), Scalar("u32", shared + 1)]
    b.launch(ptx.SHARED, "through_shared", [1], [1], shared, args)
    assert int(run(b.build(), u32(1))[0]) == shared + 1


@on_nvidia
@pytest.mark.parametrize(
    ("symbol", "block", "shared", "message"),
    [
        ("absent", 128, 0, "kernel absent, .*: cuModuleGetFunction failed: CUDA_ERROR_NOT_FOUND"),
        ("add_u32", 128, 2**30, "bytes of shared memory per block, the device has"),
    ],
)
def test_errors(symbol, block, shared, message):
    b = PlanBuilder("broken", arch())
    x, out = b.operand(4, 4), b.result(4, 4)
    args = [Pointer(out), Pointer(x), Pointer(x), Scalar("u32", 1)]
    b.launch(ptx.ADD, symbol, [1], [block], shared, args)
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        run(b.build(), u32(1)).block_until_ready()


SCRIPT = """
import jax
import numpy as np
from tests.plan.samples import u32
from tests.plan.test_device import add_plan, fill_and_copy_plan, filled, platform, run

f = jax.jit(lambda x: run(fill_and_copy_plan(100), x + 1 - 1) * 1)
g = jax.jit(lambda x: run(add_plan(100, 5), run(add_plan(100, 7), x) * 2) + 1)
for i in range(6):  # command buffers are recorded, then updated when buffers move
    np.testing.assert_array_equal(f(u32(100)), filled(100))
    if platform() == "cuda":
        np.testing.assert_array_equal(g(u32(100) + i), (np.arange(100) + i + 7) * 2 + 6)
print("right")
"""


@pytest.mark.parametrize("commands", ["", "FUSION,CUSTOM_CALL"], ids=["off", "on"])
def test_command_buffers(commands):
    flags = f"--xla_gpu_enable_command_buffer={commands} --xla_gpu_graph_min_graph_size=1"
    env = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=root, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "right\n"
