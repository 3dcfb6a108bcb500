"""Oracles of the cache writers in float64, and how far from them a result may be."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.h200.case import SPACING, Arrays, Case, f32, fp8_max, i8, i32, wide


def slots(rng: np.random.Generator, tokens: int, capacity: int) -> np.ndarray:
    """All different; the second and the last token have none: one is negative, one past the end."""
    slots = rng.permutation(capacity)[:tokens].astype(i32)
    if tokens > 2:
        slots[1], slots[-1] = -1, capacity + 3
    return slots


def tables(rng: np.random.Generator, columns: int, positions: int = 64) -> dict[str, np.ndarray]:
    angles = rng.uniform(-3, 3, (positions, columns))
    return {"cos": np.cos(angles).astype(f32), "sin": np.sin(angles).astype(f32)}


def turned(x: np.ndarray, a: Arrays, style: str) -> np.ndarray:
    """x [T, H, D] rotated in its first 2R elements, in float64."""
    c, s = (wide(a[n])[np.clip(a["positions"], 0, len(a[n]) - 1)][:, None] for n in ("cos", "sin"))
    pairs, out = c.shape[-1], wide(x).copy()
    i = np.arange(pairs)
    first, second = (i, i + pairs) if style == "neox" else (2 * i, 2 * i + 1)
    u, v = out[..., first].copy(), out[..., second].copy()
    out[..., first], out[..., second] = u * c - v * s, v * c + u * s
    return out


def stored(x: np.ndarray, scale: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """What a cache of this dtype holds of x, unrounded."""
    if dtype.itemsize > 1:
        return x
    top = largest(dtype)
    return np.clip(x / (1.0 if scale is None else float(scale[0])), -top, top)


def largest(dtype: np.dtype) -> float:
    return 127.0 if dtype == i8 else fp8_max(dtype)


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Error over one spacing of the dtype (a rotation in float32 moves a value to a neighbour at most); copies have none."""
    if got.dtype == i8:
        return float(np.max(np.abs(wide(got) - np.rint(want)), initial=0.0))
    spacing, least = (2.0**-3, 2.0**-9) if got.dtype.itemsize == 1 else (SPACING[got.dtype.name], 1e-6)
    return float(np.max(np.abs(wide(got) - want) / (spacing * np.abs(want) + least), initial=0.0))


def compared(oracle) -> Any:
    return lambda a, p, got: max(error(g, w) for g, w in zip(got, oracle(a, p), strict=True))


def exactly(oracle) -> Any:
    """What is copied, or divided by a power of two and rounded: no error is allowed."""

    def check(a, p, got):
        same = ((wide(g) == wide(w.astype(f32).astype(g.dtype))).all() for g, w in zip(got, oracle(a, p), strict=True))
        return 0.0 if all(same) else float("inf")

    return check


def case(op: str, name: str, make, params: dict[str, Any], results, oracle, check=compared) -> Case:
    return Case(op, name, make, params, results, oracle, check=check(oracle))


def written(cache: np.ndarray, slots: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """cache [slots, ...] in float64 with rows [T, ...]."""
    out = wide(cache).copy()
    for slot, row in zip(slots, rows, strict=True):
        if 0 <= slot < len(out):
            out[slot] = row
    return out


def blocked(x: np.ndarray, layout: str, which: str, vector: int) -> np.ndarray:
    """A cache [nb, bs, H, D] in a layout."""
    blocks, size, heads, width = x.shape
    if layout == "NHD":
        return x
    if layout == "HND":
        return x.transpose(0, 2, 1, 3)
    if which == "key":
        return x.reshape(blocks, size, heads, width // vector, vector).transpose(0, 2, 3, 1, 4)
    if layout == "vllm":
        return x.transpose(0, 2, 3, 1)
    return x.reshape(blocks, size // vector, vector, heads, width).transpose(0, 3, 1, 4, 2)


def rows_of(x: np.ndarray, layout: str, which: str, vector: int, like: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A cache in a layout as [slots, H, D], and where each element of the layout stands in that; like: (nb, bs, H, D)."""
    order = blocked(np.arange(x.size).reshape(like), layout, which, vector)
    plain = np.empty(x.size)
    plain[order.reshape(-1)] = wide(x).reshape(-1)
    return plain.reshape(like[0] * like[1], *like[2:]), order
