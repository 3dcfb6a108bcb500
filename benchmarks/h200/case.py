"""One call of one op: inputs, parameters, result types, a float64 oracle and the tolerance it is held to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from jax_aiter.kernels.spec import ArraySpec, CallSpec

Arrays = dict[str, np.ndarray]
#: relative spacing of the output dtype: one rounding is half of it.
SPACING = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23}


@dataclasses.dataclass(frozen=True)
class Case:
    """`roundings`: how many values of the output dtype are rounded on the way; the allowed error is that many spacings
    of (|want| + rms(want)), plus `extra` of rms(want) for quantised intermediates that may round the other way.
    """

    op: str
    name: str
    make: Callable[[np.random.Generator], Arrays]
    params: dict[str, Any]
    results: Callable[[Arrays], list[tuple[tuple[int, ...], Any]]]
    oracle: Callable[[Arrays, dict[str, Any]], Sequence[np.ndarray | None]]
    roundings: float = 2.0
    extra: float = 0.0
    check: Callable[[Arrays, dict[str, Any], list[np.ndarray]], float] | None = None  # own measure, <= 1 passes

    @property
    def label(self) -> str:
        return f"{self.op}/{self.name}"

    def arrays(self, seed: int = 0) -> Arrays:
        return self.make(np.random.default_rng(seed))

    def spec(self, arrays: Arrays, arch: str) -> CallSpec:
        return CallSpec(
            self.op,
            arch,
            {name: ArraySpec(value.shape, value.dtype.name) for name, value in arrays.items()},
            {name: np.dtype(v).name if isinstance(v, np.dtype) else v for name, v in self.params.items()},
            tuple(ArraySpec(shape, np.dtype(dtype).name) for shape, dtype in self.results(arrays)),
        )

    def error(self, arrays: Arrays, got: list[np.ndarray]) -> float:
        """Largest error over its allowance; at most 1 passes, NaN never does."""
        if self.check is not None:
            return self.check(arrays, self.params, got)
        worst = 0.0
        for have, want in zip(got, self.oracle(arrays, self.params), strict=True):
            if want is None:
                continue
            rms = np.sqrt(np.mean(np.square(want)))
            # A float32 result beside a 16-bit one is a log-sum-exp; AITER's elementwise kernel rounds each product q*k.
            spacing = max(SPACING[have.dtype.name], SPACING[got[0].dtype.name] / 2)
            allowed = self.roundings * spacing * (np.abs(want) + rms) + self.extra * rms + 1e-30
            ratio = np.abs(wide(have) - want) / allowed
            worst = max(worst, float("nan") if np.isnan(ratio).any() else float(ratio.max()))
        return worst


def wide(x: np.ndarray) -> np.ndarray:
    """float64 of any dtype, the 8-bit floats included."""
    return x.astype(np.float32).astype(np.float64) if x.dtype.kind == "V" or x.dtype.itemsize < 4 else x.astype(np.float64)


bf16 = np.dtype(ml_dtypes.bfloat16)
f16, f32, i32, i8 = (np.dtype(name) for name in ("float16", "float32", "int32", "int8"))


class Shapes(np.random.Generator):
    """Draws arrays that have shape and dtype but no memory, for whoever only needs to describe a call."""


def normal(rng: np.random.Generator, *shape: int, dtype=bf16, std: float = 1.0) -> np.ndarray:
    if isinstance(rng, Shapes):
        return np.broadcast_to(np.zeros((), dtype), shape)
    return (rng.standard_normal(shape, dtype=np.float32) * std).astype(dtype)


def uniform(rng: np.random.Generator, *shape: int, low: float = 0.5, high: float = 2.0) -> np.ndarray:
    if isinstance(rng, Shapes):
        return np.broadcast_to(np.zeros((), np.float32), shape)
    return rng.uniform(low, high, shape).astype(np.float32)


def rounded(x: np.ndarray, dtype) -> np.ndarray:
    """float64 values after a trip through `dtype`."""
    return wide(x.astype(np.float32).astype(dtype))


def fp8_max(dtype) -> float:
    return float(ml_dtypes.finfo(dtype).max)


def quantised(x: np.ndarray, dtype, groups: int | None) -> np.ndarray:
    """x after dynamic fp8 quantisation along its last axis in runs of `groups` (None: one scale for all)."""
    top = fp8_max(dtype)
    blocks = x.reshape(1, -1) if groups is None else x.reshape(-1, groups)
    scale = np.maximum(np.abs(blocks).max(-1, keepdims=True), 1e-10) / top
    return (rounded(np.clip(blocks / scale, -top, top), dtype) * scale).reshape(x.shape)
