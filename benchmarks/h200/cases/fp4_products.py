"""Products with MXFP4 weights: every product of two values is exact in float32, and activations go to their nearest in fp4."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from benchmarks.h200.case import Arrays, Case, Shapes, bf16, f16, f32, normal, uniform, wide
from benchmarks.h200.cases.microscale import BLOCK, FP4, FP8, U8, exponents, values


def _bytes(rng: np.random.Generator, *shape: int, low: int = 0, high: int = 256) -> np.ndarray:
    return np.broadcast_to(np.zeros((), U8), shape) if isinstance(rng, Shapes) else rng.integers(low, high, shape).astype(U8)


def _scales(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return _bytes(rng, *shape, low=120, high=130)


def decoded(packed: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return values(packed) * np.repeat(np.exp2(scale.astype(np.float64) - 127), BLOCK, -1)


def rounded(x: np.ndarray) -> np.ndarray:
    """The values of MXFP4 nearest to x; halves to even, by ml_dtypes' own conversion."""
    scale = np.repeat(np.exp2(exponents(x, FP4).astype(np.float64)), BLOCK, -1)
    near = np.clip(wide(x) / scale, -6, 6).astype(np.float32).astype(ml_dtypes.float4_e2m1fn)
    return near.astype(np.float64) * scale


def a4w4(m: int, n: int, k: int) -> Case:
    def make(rng: np.random.Generator) -> Arrays:
        packed = {"A": _bytes(rng, m, k // 2), "B": _bytes(rng, n, k // 2)}
        return {**packed, "A_scale": _scales(rng, m, k // BLOCK), "B_scale": _scales(rng, n, k // BLOCK)}

    oracle = lambda a, p: [decoded(a["A"], a["A_scale"]) @ decoded(a["B"], a["B_scale"]).T]  # noqa: E731
    return Case("gemm_a4w4", f"{m}x{n}x{k}", make, {"out_dtype": bf16}, lambda a: [((m, n), bf16)], oracle, roundings=1.5)


def a8wfp4(m: int, n: int, k: int) -> Case:
    def make(rng: np.random.Generator) -> Arrays:
        weight = {"w": _bytes(rng, n, k // 2), "x_scales": uniform(rng, m, 1), "w_scales": _scales(rng, n, k // BLOCK)}
        return {"x": normal(rng, m, k, dtype=FP8), **weight}

    oracle = lambda a, p: [wide(a["x"]) @ decoded(a["w"], a["w_scales"]).T * a["x_scales"]]  # noqa: E731
    return Case("gemm_a8wfp4", f"{m}x{n}x{k}", make, {"out_dtype": bf16}, lambda a: [((m, n), bf16)], oracle, roundings=1.5)


def a16wfp4(m: int, n: int, k: int, dtype: np.dtype) -> Case:
    def make(rng: np.random.Generator) -> Arrays:
        return {"x": normal(rng, m, k, dtype=dtype), "w": _bytes(rng, n, k // 2), "w_scales": _scales(rng, n, k // BLOCK)}

    oracle = lambda a, p: [rounded(a["x"]) @ decoded(a["w"], a["w_scales"]).T]  # noqa: E731
    results = lambda a: [((m, n), dtype)]  # noqa: E731
    return Case("gemm_a16wfp4", f"{m}x{n}x{k}-{dtype.name}", make, {"out_dtype": dtype}, results, oracle, roundings=1.5)


def batched(b: int, m: int, n: int, k: int, *, transposed: bool, scaled: bool) -> Case:
    out = FP8 if scaled else bf16

    def make(rng: np.random.Generator) -> Arrays:
        given = {"x": normal(rng, b, m, k), "w": _bytes(rng, b, n, k // 2), "w_scales": _scales(rng, b, n, k // BLOCK)}
        return {**given, **({"y_scale": np.array([4096.0], f32)} if scaled else {})}

    def oracle(a: Arrays, _: dict) -> list[np.ndarray]:
        y = rounded(a["x"]) @ np.swapaxes(decoded(a["w"], a["w_scales"]), 1, 2)
        return [np.swapaxes(y, 0, 1) if transposed else y]

    def check(a: Arrays, p: dict, got: list[np.ndarray]) -> float:
        """fp8: half a step, which is an eighth of the value at most and 2^-9 near zero, and what float32 sums err."""
        want = oracle(a, p)[0] / 4096.0
        return float((np.abs(wide(got[0]) - want) / (0.51 * np.maximum(np.abs(want) / 8, 2.0**-9))).max())

    shape = (m, b, n) if transposed else (b, m, n)
    params = {"out_dtype": out, "transpose_bm": transposed}
    name = f"{b}x{m}x{n}x{k}{'-transposed' if transposed else ''}{'-fp8' if scaled else ''}"
    return Case(
        "batched_gemm_a16wfp4", name, make, params, lambda a: [(shape, out)], oracle, roundings=1.5, check=check if scaled else None
    )


def cases(arch: str) -> list[Case]:
    """No instruction of gfx942 takes these, and Triton has none in their place there."""
    if arch == "gfx942":
        return []
    plain = [op(*shape) for op in (a4w4, a8wfp4) for shape in ((5, 48, 256), (130, 96, 384))]
    halves = [a16wfp4(5, 48, 256, bf16), a16wfp4(66, 80, 384, f16)]
    found = [batched(2, 5, 48, 128, transposed=True, scaled=False), batched(3, 19, 48, 256, transposed=False, scaled=False)]
    if arch == "gfx950":  # elsewhere the product that takes a scale for its result is not AITER's that is bound
        found.append(batched(2, 19, 48, 256, transposed=False, scaled=True))
    return [*plain, *halves, *found]
