"""Where AMD's matrix instructions keep their elements, written down from AMD's matrix instruction calculator.

An operand is an array of codes [element of the lane][lane]; `unpack` and `pack` go between that and registers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LANES = 64


class Shape(NamedTuple):
    m: int
    n: int
    k: int
    blocks: int


def unpack(registers: np.ndarray, bits: int) -> np.ndarray:
    """[register][lane] dwords -> [element][lane] codes, little-endian within and across dwords."""
    stream = np.unpackbits(registers.T.copy().view(np.uint8), axis=1, bitorder="little")
    count = stream.shape[1] // bits
    weights = np.uint64(1) << np.arange(bits, dtype=np.uint64)
    return (stream[:, : count * bits].reshape(LANES, count, bits) * weights).sum(axis=2).astype(np.uint64).T


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    planes = (codes.T[:, :, None] >> np.arange(bits, dtype=np.uint64)) & np.uint64(1)
    stream = np.packbits(planes.astype(np.uint8).reshape(LANES, -1), axis=1, bitorder="little")
    return stream.view(np.uint32).T.copy()


def operand(elements: np.ndarray, edge: int, k: int, blocks: int) -> np.ndarray:
    """[element][lane] -> [block][row or column][k]. Lane = i + edge*(block + blocks*(k // per_lane))."""
    per_lane = edge * k * blocks // LANES
    out = np.empty((blocks, edge, k), elements.dtype)
    for block in range(blocks):
        for i in range(edge):
            for kk in range(k):
                out[block, i, kk] = elements[kk % per_lane, i + edge * (block + blocks * (kk // per_lane))]
    return out


def operand_8bit_scaled(elements: np.ndarray, edge: int, k: int) -> np.ndarray:
    """The f8f6f4 forms with 8-bit data: sixteen elements from each half of k."""
    out = np.empty((1, edge, k), elements.dtype)
    for i in range(edge):
        for kk in range(k):
            half, rest = divmod(kk, k // 2)
            out[0, i, kk] = elements[16 * half + rest % 16, i + edge * (rest // 16)]
    return out


def result_positions(shape: Shape, wide: bool) -> tuple[np.ndarray, np.ndarray]:
    """(element, lane) of D[block][i][j]."""
    block, i, j = np.meshgrid(np.arange(shape.blocks), np.arange(shape.m), np.arange(shape.n), indexing="ij")
    if wide and shape.m == 16:
        return i // 4, 16 * (i % 4) + j
    if wide:
        return np.zeros_like(i), 16 * i + 4 * block + j
    if shape.m == 4:
        return i, 4 * block + j
    rows = LANES // shape.n * 4  # rows covered by one group of four registers
    return shape.m * shape.n // LANES * block + 4 * (i // rows) + i % 4, shape.n * (i % rows // 4) + j
