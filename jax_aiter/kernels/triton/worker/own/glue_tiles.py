"""What AITER's MoE products of ragged rows are told, and what stands around them: rows in MXFP8, the sum over a token's slots.

These products name a tile by its expert and its number within that expert's rows, `number << 16 | expert`.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from jax_aiter.kernels.triton.worker.own.glue_sort import Sorted

#: columns that share a power of two
MX = 32


class Tiles(NamedTuple):
    """starts: [E], each expert's first row. named: a tile's number, -1 behind those that are used. used: [1], how many are."""

    starts: torch.Tensor
    named: torch.Tensor
    used: torch.Tensor


@triton.jit
def _tiles_kernel(totals, starts, named, count, num_experts, most, BLOCK: tl.constexpr, BINS: tl.constexpr):
    expert, bins = tl.program_id(0), tl.arange(0, BINS)
    blocks = (tl.load(totals + bins, mask=bins < num_experts, other=0) + BLOCK - 1) // BLOCK
    first = tl.sum(tl.where(bins < expert, blocks, 0))
    number = tl.sum(tl.where(bins == expert, blocks, 0))
    tl.store(starts + expert, first * BLOCK)
    if expert == 0:
        tl.store(count, tl.sum(blocks))
        none = tl.sum(blocks) + tl.arange(0, 128)
        while tl.min(none) < most:
            tl.store(named + none, tl.full((128,), -1, tl.int32), mask=none < most)
            none += 128
    block = tl.arange(0, 128)
    while tl.min(block) < number:
        tl.store(named + first + block, (block << 16) | expert, mask=block < number)
        block += 128


def tiles(found: Sorted, num_experts: int, block: int) -> Tiles:
    """Of rows that stand as in ``found.order``."""
    starts, count = (torch.empty((size,), dtype=torch.int32, device="meta") for size in (num_experts, 1))
    named = torch.empty(found.blocks.shape, dtype=torch.int32, device="meta")
    bins = triton.next_power_of_2(num_experts)
    _tiles_kernel[(num_experts,)](found.totals, starts, named, count, num_experts, named.shape[0], BLOCK=block, BINS=bins)
    return Tiles(starts, named, count)


@triton.jit
def _mxfp8_rows_kernel(
    x, order, y, scale, stride, columns, slots, ORDERED: tl.constexpr, GROUPS: tl.constexpr, WIDTH: tl.constexpr
):
    row, group = tl.program_id(0).to(tl.int64), tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    if ORDERED and tl.load(order + row) >= slots:
        return
    column = group[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    inside = column < columns
    value = tl.load(x + row * stride + column, mask=inside, other=0.0).to(tl.float32)
    amax = tl.max(tl.abs(value), axis=1)
    whole = tl.max((value - value != 0).to(tl.int32), axis=1) == 0  # neither an infinity nor a NaN
    # From 1.75 times a power of two on it is the next one; 8 is the exponent of the largest that e4m3 holds.
    code = tl.where(whole, tl.maximum(((amax.to(tl.int32, bitcast=True) + 0x200000) >> 23) - 8, 0), 255)
    over = ((254 - tl.minimum(code, 253)) << 23).to(tl.float32, bitcast=True)
    fitted = tl.minimum(tl.maximum(value * over[:, None], -448.0), 448.0)
    tl.store(y + row * columns + column, fitted.to(tl.float8e4nv), mask=inside)
    tl.store(scale + row * (columns // WIDTH) + group, code.to(tl.uint8), mask=group * WIDTH < columns)


def mxfp8_rows(x: torch.Tensor, columns: int, found: Sorted | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `columns` of each row in e4m3 and a power of two per 32; with `found` only of rows that a slot stands in."""
    rows, stride = x.shape
    y = torch.empty((rows, columns), dtype=torch.float8_e4m3fn, device="meta")
    scale = torch.empty((rows, columns // MX), dtype=torch.uint8, device="meta")
    groups = min(32, triton.next_power_of_2(columns // MX))
    slots, ordered = (0, False) if found is None else (found.local.numel(), True)
    order = scale if found is None else found.order
    grid = rows, triton.cdiv(columns // MX, groups)
    _mxfp8_rows_kernel[grid](x, order, y, scale, stride, columns, slots, ORDERED=ordered, GROUPS=groups, WIDTH=MX)
    return y, scale


@triton.jit
def _sum_places_kernel(parts, places, local, weights, out, columns, kept, num_experts, K: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for k in tl.static_range(K):
        taken = tl.load(local + row * K + k) < num_experts
        place = tl.load(places + row * K + k).to(tl.int64)
        part = tl.load(parts + place * columns + j, mask=taken & (j < kept), other=0.0).to(tl.float32)
        total += part * tl.load(weights + row * K + k, mask=taken, other=0.0)
    tl.store(out + row * columns + j, total.to(out.dtype.element_ty), mask=j < columns)


def sum_places(
    parts: torch.Tensor, found: Sorted, weights: torch.Tensor, out: torch.Tensor, *, num_experts: int, pad: int
) -> torch.Tensor:
    """[T, D]: the rows of `parts` where a token's slots stand, times the slots' weights, in float32; zeros in the last `pad`."""
    (tokens, columns), slots = out.shape, weights.shape[1]
    block = min(1024, triton.next_power_of_2(columns))
    given = (parts, found.places, found.local, weights, out, columns, columns - pad, num_experts)
    _sum_places_kernel[(tokens, triton.cdiv(columns, block))](*given, K=slots, BLOCK=block)
    return out
