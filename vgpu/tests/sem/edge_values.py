"""Bit patterns worth trying in every floating-point function."""

from __future__ import annotations

import numpy as np


def edges_f32() -> np.ndarray:
    magnitudes = [
        0,
        1,
        2,
        0x7FFFFF,
        0x800000,
        0x800001,
        0xFFFFFF,
        0x1000000,
        0x33000000,
        0x33800000,
        0x3EFFFFFF,
        0x3F000000,
        0x3F7FFFFF,
        0x3F800000,
        0x3F800001,
        0x3FC00000,
        0x40000000,
        0x40490FDB,
        0x42C80000,
        0x43800000,
        0x43800001,
        0x477FE000,
        0x477FEFFF,
        0x477FF000,
        0x477FFFFF,
        0x47800000,
        0x4B000000,
        0x4EFFFFFF,
        0x4F000000,
        0x4F7FFFFF,
        0x4F800000,
        0x7E800000,
        0x7E800001,
        0x7F000000,
        0x7F7FFFFF,
        0x7F800000,
        0x7F800001,
        0x7FA00000,
        0x7FC00000,
        0x7FFFFFFF,
    ]
    values = np.array(magnitudes, np.uint32)
    return np.concatenate([values, values | np.uint32(0x80000000)])


def sample_f32(n: int, seed: int = 0) -> np.ndarray:
    """Uniform over bit patterns (so over exponents), edges first."""
    rng = np.random.default_rng(seed)
    edges = edges_f32()
    return np.concatenate([edges, rng.integers(0, 1 << 32, n - len(edges), dtype=np.uint32)])


def edges_f64() -> np.ndarray:
    magnitudes = [
        0,
        1,
        0xFFFFFFFFFFFFF,
        0x10000000000000,
        0x3FE0000000000000,
        0x3FEFFFFFFFFFFFFF,
        0x3FF0000000000000,
        0x3FF0000000000001,
        0x41DFFFFFFFC00000,
        0x41E0000000000000,
        0x41EFFFFFFFE00000,
        0x41F0000000000000,
        0x7FD0000000000000,
        0x7FD0000000000001,
        0x7FE0000000000000,
        0x7FEFFFFFFFFFFFFF,
        0x7FF0000000000000,
        0x7FF0000000000001,
        0x7FF8000000000000,
    ]
    values = np.array(magnitudes, np.uint64)
    return np.concatenate([values, values | np.uint64(1 << 63)])


def sample_f64(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    edges = edges_f64()
    return np.concatenate([edges, rng.integers(0, 1 << 64, n - len(edges), dtype=np.uint64)])
