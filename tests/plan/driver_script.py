"""Run by test_drivers in a process of its own: `driver_script.py hip|cuda LIBRARY` drives plans through a stand-in library.

Prints a JSON object: for each scenario the result or error and the calls that the library saw.
"""

import ctypes
import json
import sys

import jax
import jax.numpy as jnp

from jax_aiter.kernels import _native, mock_driver
from jax_aiter.kernels.args import Pointer, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.call import call_plan

DRIVER, LIBRARY = sys.argv[1:3]
IMAGE = {"hip": b"hsaco", "cuda": b"cubin"}[DRIVER]

mock_driver.install()
_native.load().testing.use_on_cpu(DRIVER)


def plan(symbol="add", image=IMAGE, block=64, shared=0, scalar="u32", width=4):
    b = PlanBuilder("op", "mock")
    x, out, tmp = b.operand(32, 4), b.result(32, 4), b.scratch(32, 4)
    b.fill(tmp, 7, width=width)
    b.launch(image, symbol, [3, 2], [block], shared, [Pointer(out), Pointer(x), Pointer(tmp), Scalar(scalar, 8)])
    return b.build()


def run(a_plan, device=0):
    x = jax.device_put(jnp.arange(8, dtype=jnp.uint32), jax.devices("cpu")[device])
    (y,) = call_plan(a_plan, x, result_shape_dtypes=[jax.ShapeDtypeStruct((8,), jnp.uint32)])
    return y.tolist()


def attempt(*args, **kwargs):
    try:
        outcome = run(plan(**kwargs), *args)
    except jax.errors.JaxRuntimeError as e:
        outcome = str(e)
    return {"outcome": outcome, "calls": library.fake_take_log().decode().splitlines()}


report = {}
if LIBRARY == "none":
    try:
        report["no library"] = run(plan())
    except jax.errors.JaxRuntimeError as e:
        report["no library"] = str(e)
else:
    # Loaded first, as XLA does with the real one: the driver must find it by its name among the loaded libraries.
    library = ctypes.CDLL(LIBRARY)
    library.fake_take_log.restype = ctypes.c_char_p
    report["first"] = attempt()
    report["again"] = attempt()
    report["other device"] = attempt(1)
    report["missing device"] = attempt(2)
    report["bad image"] = attempt(image=b"other")
    report["missing symbol"] = attempt(symbol="absent")
    report["failing launch"] = attempt(symbol="fails")
    report["fill16"] = attempt(width=2)
    report["large shared"] = attempt(shared=100_000)
    report["larger shared"] = attempt(shared=120_000)
    report["less shared"] = attempt(shared=60_000)
    report["too much shared"] = attempt(shared=232_449)
    report["large block"] = attempt(block=512)
    report["wrong parameter"] = attempt(scalar="u64")
print(json.dumps(report))
