"""What takes one fused multiply-add for each k, bit for bit: f32 and f64, and all others with `--arith=fma` as on gfx950.

Restated in float64 with exact errors: a product of two float32 is exact there, and a sum that is rounded to odd rounds to float32
as the exact one does. Of float64 by the C library's fma. Integers are exact.
"""

from __future__ import annotations

import ctypes
import ctypes.util

import numpy as np
import pytest
from matrix_layout import LANES, Shape, operand, pack, result_positions, unpack
from matrix_names import DENSE, SPARSE
from test_mfma import Info, decode, element_type, encode, execute, parts, table  # noqa: F401  (table: a fixture)

FMA = ctypes.CDLL(ctypes.util.find_library("m")).fma
FMA.restype, FMA.argtypes = ctypes.c_double, [ctypes.c_double] * 3
INTEGERS = [n for n in DENSE if parts(n)[0] == "i32"]
SPARSE_INTEGERS = [n for n in SPARSE if parts(n)[0] == "i32"]
FLOATS = [n for n in DENSE if parts(n)[0] == "f32"]
DOUBLES = [n for n in DENSE if parts(n)[0] == "f64"]
STYLES = ("normal", "wide", "cancelling", "zeros")


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c rounded once, to float32; a, b and c are float32 values in float64."""
    product = a * b
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    with np.errstate(over="ignore", invalid="ignore"):
        bits = total.view(np.int64)
        # Rounding to odd: a total that is not exact and even goes one step towards the exact sum.
        step = np.where((error > 0) == (total > 0), 1, -1)
        odd = np.where((error != 0) & (bits & 1 == 0), bits + step, bits).view(np.float64)
        return odd.astype(np.float32).astype(np.float64)


def fused_doubles(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.array([FMA(*abc) for abc in zip(*(x.ravel().tolist() for x in np.broadcast_arrays(a, b, c)), strict=True)]).reshape(
        c.shape
    )


def values(rng: np.random.Generator, shape: tuple[int, int], style: str, exponents: int) -> np.ndarray:
    if style == "cancelling":
        return rng.choice([0.0, 1.0, -1.0, 1.5, -1.5, 2.0**-9, -(2.0**-9), 3.0, -3.0], shape)
    found = rng.normal(size=shape)
    if style == "wide":
        found = found * 2.0 ** rng.integers(-exponents, exponents // 2, shape)
    return found * (rng.random(shape) < 0.3) if style == "zeros" else found


#: Exponents of "wide" operands: down to denormals of the format, or of the results.
EXPONENTS = {"f32": 70, "xf32": 70, "bf16": 70, "f16": 24, "fp8": 10, "bf8": 16, "f64": 530}


def check(shim, info: Info, name: str, seed: int, times: int) -> None:
    out, ta, tb = parts(name)
    shape, rng = Shape(info.m, info.n, info.k, info.blocks), np.random.default_rng(seed)
    ocp = not info.on_gfx942
    kind_c = element_type(out, ocp)
    for i in range(times):
        style = STYLES[i % len(STYLES)]
        sides = []
        for kind, count, edge in ((ta, info.a_regs, shape.m), (tb, info.b_regs, shape.n)):
            form = element_type(kind, ocp)
            code = encode(values(rng, (count * 32 // form.bits, LANES), style, EXPONENTS[kind]), form)
            kept = code & ~np.uint64(0x1FFF) if kind == "xf32" else code
            sides.append((pack(code, form.bits), operand(decode(kept, form), edge, shape.k, shape.blocks)))
        start = values(rng, (info.c_regs * 32 // kind_c.bits, LANES), style, 2 * EXPONENTS[ta])
        c = pack(encode(start, kind_c), kind_c.bits)
        element, lane = result_positions(shape, out == "f64")
        (a, left), (b, right) = sides
        got = unpack(execute(shim, info, a, b, c, (0, 0, 0, ocp)), kind_c.bits)[element, lane]
        want = decode(unpack(c, kind_c.bits), kind_c)[element, lane]
        for k in range(shape.k):
            step = fused_doubles if out == "f64" else fused
            want = step(left[..., :, None, k], right[..., None, :, k], want)
        np.testing.assert_array_equal(got, encode(want, kind_c), err_msg=f"{name} {style}")


def check_integers(shim, info: Info, name: str, seed: int, times: int) -> None:
    shape, rng = Shape(info.m, info.n, info.k, info.blocks), np.random.default_rng(seed)
    element, lane = result_positions(shape, False)
    for i in range(times):
        a, b, c = (rng.integers(0, 2**32, (count, LANES), np.uint32) for count in (info.a_regs, info.b_regs, info.c_regs))
        index = rng.integers(0, 2**32, LANES, np.uint32) if info.sparse else None
        clamp = i % 2
        got = (
            unpack(execute(shim, info, a, b, c, (0, 0, 0, 0, clamp), index=index), 32)[element, lane]
            .astype(np.uint32)
            .view(np.int32)
        )
        signed = [unpack(x, 8).astype(np.uint8).view(np.int8).astype(np.int64) for x in (a, b)]
        right = operand(signed[1], shape.n, shape.k, shape.blocks)
        if info.sparse:
            per_lane = len(signed[0])
            places = unpack(index[None, :], 2)[:per_lane].astype(int)
            left, named = (operand(x, shape.m, shape.k // 2, 1)[0] for x in (signed[0], places))
            rows = right[0].T[4 * (np.arange(shape.k // 2) // 2) + named]
            total = np.einsum("mk,mkn->mn", left, rows)[None]
        else:
            total = operand(signed[0], shape.m, shape.k, shape.blocks) @ right.transpose(0, 2, 1)
        exact = total + unpack(c, 32)[element, lane].astype(np.uint32).view(np.int32)
        want = np.clip(exact, -(2**31), 2**31 - 1) if clamp else exact.astype(np.int32)
        np.testing.assert_array_equal(got, want, err_msg=f"{name} clamp {clamp}")


def of(name: str):
    return check_integers if parts(name)[0] == "i32" else check


@pytest.mark.parametrize("name", [*FLOATS, *DOUBLES, *INTEGERS, *SPARSE_INTEGERS])
def test_some_results_of_each(shim, table, name):  # noqa: F811
    of(name)(shim, table[name], name, seed=0, times=8)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [*FLOATS, *DOUBLES, *INTEGERS, *SPARSE_INTEGERS])
def test_a_million_results_of_each(shim, table, name):  # noqa: F811
    info = table[name]
    of(name)(shim, info, name, seed=1, times=-(-(10**6) // (info.m * info.n * info.blocks)))
