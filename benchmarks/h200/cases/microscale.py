"""Quantisation to MXFP4 and MXFP8: the scale of each 32 values is known exactly, and each value goes to one of its nearest."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from benchmarks.h200.case import Arrays, Case, bf16, f32, normal, wide

BLOCK = 32
FP4, FP8 = np.dtype(ml_dtypes.float4_e2m1fn), np.dtype(ml_dtypes.float8_e4m3fn)
U8 = np.dtype(np.uint8)
#: exponent of the largest power of two that a type has.
LARGEST = {FP4: 2, FP8: 8}


def exponents(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Of the scales: of the largest magnitude rounded to a power of two from 1.75 times one on, less the type's own."""
    amax = np.abs(wide(x)).reshape(*x.shape[:-1], -1, BLOCK).max(-1)
    floor = np.frexp(amax)[1] - 1
    grown = floor + (amax >= 1.75 * np.exp2(floor)) - LARGEST[dtype]
    return np.clip(np.where(amax < 2.0**-126, -127, grown), -127, 127)


def values(packed: np.ndarray) -> np.ndarray:
    """Of bytes with two of fp4 each, the low four bits first."""
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)
    return codes.view(FP4).astype(np.float64)


def case(rows: int, columns: int, dtype: np.dtype, given: np.dtype) -> Case:
    fp4 = dtype == FP4
    table = np.arange(8, dtype=np.uint8).view(FP4) if fp4 else np.arange(127, dtype=np.uint8).view(FP8)
    table = table.astype(np.float64)

    def make(rng: np.random.Generator) -> Arrays:
        x = normal(rng, rows, columns, dtype=given)
        if x.flags.writeable:  # rows of other sizes, and a block of zeros
            x = (wide(x) * np.exp2(np.linspace(-20, 20, rows).round())[:, None]).astype(given)
            x[0, :BLOCK] = 0
        return {"x": x}

    def check(a: Arrays, _: dict, got: list[np.ndarray]) -> float:
        wanted = exponents(a["x"], dtype)
        if (got[1].astype(np.int64) - 127 != wanted).any():
            return float("inf")
        scaled = wide(a["x"]) / np.repeat(np.exp2(wanted.astype(np.float64)), BLOCK, -1)
        scaled = np.sign(scaled) * np.minimum(np.abs(scaled), table[-1])
        least = np.abs(np.abs(scaled)[..., None] - table).min(-1)
        have = values(got[0]) if fp4 else wide(got[0])
        return float("nan") if np.isnan(have).any() else float(np.max(np.abs(have - scaled) - least) * 1e6)

    op = "dynamic_mxfp4_quant" if fp4 else "dynamic_mxfp8_quant"
    params = {"scaling_mode": "even"} if fp4 else {"scaling_mode": "even", "quant_dtype": FP8}
    shape = (rows, columns // 2) if fp4 else (rows, columns)
    results = lambda a: [(shape, U8 if fp4 else FP8), ((rows, columns // BLOCK), U8)]  # noqa: E731
    return Case(op, f"{rows}x{columns}-{given.name}", make, params, results, lambda a, p: [], check=check)


def cases(arch: str) -> list[Case]:
    """MXFP8 is of a type that gfx942 has not."""
    found = [case(3, 96, FP4, bf16), case(40, 1184, FP4, f32)]
    return found if arch == "gfx942" else [*found, case(5, 160, FP8, f32), case(33, 1024, FP8, bf16)]
