"""The OCP microscaling formats in float64 numpy, restated from the specification (MX v1.0, sections 5 and 6)."""

import math

import ml_dtypes
import numpy as np

BLOCK = 32
#: exponent of the largest power of two of an element type, and its largest value
LARGEST = {"float4_e2m1fn": (2, 6.0), "float8_e4m3fn": (8, 448.0), "float8_e4m3fnuz": (7, 240.0)}


def exponent(amax: float, element: str, mode: str) -> int:
    """Of the scale of a block whose largest magnitude is `amax` > 0."""
    emax, largest = LARGEST[element]
    floor = math.frexp(amax)[1] - 1
    if mode == "floor":  # the specification's own rule, 6.3
        return floor - emax
    if mode == "even":
        return floor - emax + (amax >= 1.75 * 2.0**floor)
    if mode == "ceil":
        return floor - emax + (amax > 2.0**floor)
    ratio = float(np.float32(amax) / np.float32(largest))
    return math.ceil(math.log2(ratio))


def rounded(x: np.ndarray, element: str, away: bool = False) -> np.ndarray:
    """float64 to the nearest value of `element`, halves to even or away from zero, saturated: by a table of its values."""
    dtype = np.dtype(getattr(ml_dtypes, element))
    codes = np.arange(8 if element == "float4_e2m1fn" else 128, dtype=np.uint8)
    table = codes.view(dtype).astype(np.float64)
    table = np.sort(table[np.isfinite(table)])
    size = np.minimum(np.abs(x), table[-1])
    above = np.clip(np.searchsorted(table, size), 1, len(table) - 1)
    low, high = table[above - 1], table[above]
    # Neighbours' codes differ by one, so of two equally near the one with the even code.
    half = high if away else np.where((above - 1) % 2 == 0, low, high)
    nearer = np.where(size - low == high - size, half, np.where(size - low < high - size, low, high))
    return np.copysign(nearer, x)


def quantised(x: np.ndarray, element: str, mode: str, away: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Elements as float64 values ``[..., D]``, and the scales' bytes ``[..., D/32]``; for finite x."""
    groups = np.asarray(x, np.float64).reshape(*x.shape[:-1], -1, BLOCK)
    amax = np.abs(groups).max(-1)
    exponents = np.array([exponent(a, element, mode) if a >= 2.0**-126 else -127 for a in amax.ravel()]).reshape(amax.shape)
    exponents = np.clip(exponents, -127, 127)
    values = rounded(groups / np.exp2(exponents.astype(np.float64))[..., None], element, away)
    return values.reshape(x.shape), (exponents + 127).astype(np.uint8)


def fp4(packed: np.ndarray) -> np.ndarray:
    """float64 values of bytes, the low four bits first, by ml_dtypes' own type."""
    packed = np.asarray(packed)
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)
    return codes.view(ml_dtypes.float4_e2m1fn).astype(np.float64)


def e8m0(scale: np.ndarray) -> np.ndarray:
    """float64 of scales, by ml_dtypes' own type."""
    return np.asarray(scale).view(ml_dtypes.float8_e8m0fnu).astype(np.float64)


def dequantised(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """float64 ``[..., D]`` of elements, packed fp4 or fp8, and their scales."""
    values = fp4(x) if np.asarray(x).dtype == np.uint8 else np.asarray(x).astype(np.float64)
    return values * np.repeat(e8m0(scale), BLOCK, -1)
