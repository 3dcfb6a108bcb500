"""Host time per launched kernel: the bare driver call, our handler's loop, and the whole jitted custom call.

    python -m benchmarks.host_overhead                   # CUDA or ROCm if jax has such a device, else the mock driver
    python -m benchmarks.host_overhead --driver mock

Rows, each a median over rounds of the calling thread's time, in microseconds per kernel:

    bare driver launch       the driver's launch call in a C++ loop, arguments packed beforehand
    plan replay              Executor::Execute in a C++ loop: buffer checks, argument packing, launch
    within one custom call   slope over the number of kernels in one plan, through jit
    per custom call          slope over the number of custom calls (one kernel each), through jit: XLA's own cost included

The kernel does nothing, so that the host is what is measured; queues are drained between rounds, outside the timing. For the two
rows through jit the time is that until the result is ready, since XLA may enqueue from a thread of its own.
"""

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.nop_kernel import KERNELS
from jax_aiter.kernels import _native, mock_driver
from jax_aiter.kernels.args import Pointer, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.plan.encode import encode

SYMBOL = "nop_kernel"
ROUNDS = 30
REPEATS = 256  # kernels per round: below the depth at which a driver's queue makes the host wait


def nop_plan(code: bytes, arch: str, kernels: int) -> LaunchPlan:
    """`kernels` launches over three buffers; eight arguments in all, like a small real kernel."""
    b = PlanBuilder("nop", arch)
    x, out, tmp = b.operand(64, 16), b.result(64, 16), b.scratch(64)
    b.alias(x, out)  # a chain of calls needs no copies
    scalars = [Scalar("i32", i) for i in range(4)] + [Scalar("fp32", 1.0)]
    for _ in range(kernels):
        b.launch(code, SYMBOL, [1], [32], 0, [Pointer(x), Pointer(out), Pointer(tmp), *scalars])
    return b.build()


def synchronizer(driver: str) -> Callable[[], None]:
    """Waits for everything on device 0, outside what jax knows of."""
    if driver == "hip":
        hip = ctypes.CDLL("libamdhip64.so")
        return lambda: check(hip.hipDeviceSynchronize())
    if driver == "cuda":
        cuda, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
        check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
        check(cuda.cuCtxSetCurrent(context))
        return lambda: check(cuda.cuCtxSynchronize())
    return lambda: None


def check(code: int) -> None:
    if code:
        raise RuntimeError(f"driver error {code}")


def time_replay(driver: str, plan: LaunchPlan, bare: bool) -> float:
    x, tmp = jax.block_until_ready((jnp.zeros(64, jnp.uint8), jnp.zeros(64, jnp.uint8)))
    buffer = (x.unsafe_buffer_pointer(), 64)
    buffers = {"operands": [buffer], "results": [buffer, (tmp.unsafe_buffer_pointer(), 64)]}
    encoded, wait, rounds = encode(plan), synchronizer(driver), []
    probe = _native.require().testing.time_launches
    repeats = REPEATS // len(plan.kernels)
    for _ in range(ROUNDS):
        seconds = probe(driver=driver, encoded=encoded, ordinal=0, repeats=repeats, bare=bare, **buffers)
        rounds.append(seconds / repeats / len(plan.kernels))
        wait()
    return statistics.median(rounds)


def time_jit(plan: LaunchPlan, calls: int) -> float:
    shape = jax.ShapeDtypeStruct((64,), jnp.uint8)

    def program(x):
        for _ in range(calls):
            (x,) = call_plan(plan, x, result_shape_dtypes=[shape])
        return x

    run = jax.jit(program, donate_argnums=0).lower(shape).compile()
    x, rounds = run(jnp.zeros(64, jnp.uint8)).block_until_ready(), []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        x = run(x).block_until_ready()
        rounds.append(time.perf_counter() - start)
    return statistics.median(rounds)


def slope(measure: Callable[[int], float], sizes: tuple[int, ...] = (1, 32, 64, 128)) -> float:
    return float(np.polyfit(sizes, [measure(n) for n in sizes], 1)[0])


def run(driver: str) -> dict[str, float]:
    code, arch = KERNELS[driver](jax.devices()[0])
    if driver == "mock":
        mock_driver.configure(record=False)
    one, four = nop_plan(code, arch, 1), nop_plan(code, arch, 4)
    return {
        "bare driver launch": time_replay(driver, one, bare=True),
        "plan replay, 1 kernel": time_replay(driver, one, bare=False),
        "plan replay, 4 kernels": time_replay(driver, four, bare=False),
        "within one custom call": slope(lambda n: time_jit(nop_plan(code, arch, n), 1)),
        "per custom call": slope(lambda n: time_jit(one, n)),
    }


def present_driver() -> str:
    version = jax.devices()[0].client.platform_version.lower()  # device.platform is "gpu" for both
    return "cuda" if "cuda" in version else "hip" if "rocm" in version else "mock"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--driver", choices=sorted(KERNELS), default=present_driver())
    driver = parser.parse_args().driver
    results = run(driver)
    bare = results["bare driver launch"]
    print(f"host time per kernel on {jax.devices()[0].device_kind}, driver {driver}, jax {jax.__version__}")
    for name, seconds in results.items():
        print(f"  {name:24s} {seconds * 1e6:8.3f} us   {seconds / bare:6.2f} x bare")


if __name__ == "__main__":
    main()
