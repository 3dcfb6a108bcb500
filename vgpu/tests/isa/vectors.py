"""Input bits: edge values of the operand's type mixed with random ones."""

from __future__ import annotations

import numpy as np

F16 = [
    0x0000,
    0x0001,
    0x03FF,
    0x0400,
    0x0401,
    0x3800,
    0x3BFF,
    0x3C00,
    0x3C01,
    0x3E00,
    0x4000,
    0x4200,
    0x5C00,
    0x6400,
    0x77FF,
    0x7BFF,
    0x7C00,
    0x7C01,
    0x7D00,
    0x7E00,
    0x7FFF,
]
F32 = [
    0x00000000,
    0x00000001,
    0x007FFFFF,
    0x00800000,
    0x00800001,
    0x33800000,
    0x3EFFFFFF,
    0x3F000000,
    0x3F7FFFFF,
    0x3F800000,
    0x3F800001,
    0x3FC00000,
    0x40000000,
    0x40200000,
    0x40600000,
    0x477FE000,
    0x477FF000,
    0x4B800000,
    0x4EFFFFFF,
    0x4F000000,
    0x4F800000,
    0x7E800001,
    0x7F7FFFFF,
    0x7F800000,
    0x7F800001,
    0x7FA00000,
    0x7FC00000,
]
F64 = [
    0x0,
    0x1,
    0x000FFFFFFFFFFFFF,
    0x0010000000000000,
    0x3FDFFFFFFFFFFFFF,
    0x3FE0000000000000,
    0x3FEFFFFFFFFFFFFF,
    0x3FF0000000000000,
    0x3FF8000000000000,
    0x4000000000000000,
    0x4004000000000000,
    0x41DFFFFFFFC00000,
    0x41E0000000000000,
    0x41F0000000000000,
    0x47EFFFFFE0000000,
    0x47F0000000000000,
    0x7FD0000000000001,
    0x7FEFFFFFFFFFFFFF,
    0x7FF0000000000000,
    0x7FF0000000000001,
    0x7FF8000000000000,
]
INT = [
    0,
    1,
    2,
    3,
    5,
    7,
    8,
    12,
    13,
    15,
    16,
    31,
    32,
    33,
    63,
    64,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFF,
    0x800000,
    0xFFFFFF,
    0x7FFFFFFF,
    0x80000000,
    0x80000001,
    0xFFFFFFFE,
    0xFFFFFFFF,
    0x80008000,
    0x7FFF7FFF,
    0x00FF00FF,
    0xFFFF0000,
]


def _pick(rng: np.random.Generator, edges: list[int], bits: int, shape: tuple[int, ...]) -> np.ndarray:
    values = rng.choice(np.array(edges, np.uint64), shape)
    return values ^ (rng.integers(0, 2, shape, dtype=np.uint64) << np.uint64(bits - 1))


def fill(rng: np.random.Generator, kind: str, dwords: int, count: int) -> np.ndarray:
    """[dword][lane] of test data for an operand of this type: half edge values, a quarter near one, the rest random."""
    random = rng.integers(0, 1 << 32, (dwords, count), dtype=np.uint32)
    choice = rng.integers(0, 4, count)
    if kind in ("f16", "bf16"):
        edges = F16 if kind == "f16" else [v >> 16 for v in F32]
        halves = _pick(rng, edges, 16, (2, dwords, count)).astype(np.uint32)
        special = halves[0] | halves[1] << 16
        near = (rng.normal(size=(2, dwords, count)) * 8).astype(np.float16).view(np.uint16).astype(np.uint32)
        if kind == "bf16":
            near = (rng.normal(size=(2, dwords, count)) * 8).astype(np.float32).view(np.uint32) >> 16
        ordinary = near[0] | near[1] << 16
    elif kind == "f64" and dwords >= 2:
        wide = _pick(rng, F64, 64, (count,))
        near = (rng.normal(size=count) * 8).view(np.uint64)
        special, ordinary = (
            np.stack([(w >> np.uint64(32 * (i % 2))).astype(np.uint32) for i in range(dwords)]) for w in (wide, near)
        )
    elif kind == "f32":
        special = _pick(rng, F32, 32, (dwords, count)).astype(np.uint32)
        ordinary = (rng.normal(size=(dwords, count)) * 8).astype(np.float32).view(np.uint32)
    else:
        special = rng.choice(np.array(INT, np.uint64), (dwords, count)).astype(np.uint32)
        ordinary = rng.integers(0, 100, (dwords, count), dtype=np.uint32)
    return np.where(choice < 2, special, np.where(choice == 2, ordinary, random)).astype(np.uint32)
