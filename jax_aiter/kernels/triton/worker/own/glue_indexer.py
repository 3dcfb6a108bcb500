"""Triton kernels of our own for sparse attention's indexer: what AITER's logits kernel wants around it, and logits over pages."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

#: of AITER's packed kernel.
TILE = 128


@triton.jit
def _whole_tiles_kernel(starts, ends, first, last, rows, columns, TILE: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    end = tl.load(ends + i, mask=i < rows, other=0)
    end = tl.minimum(tl.maximum(end, 0), columns)
    start = tl.load(starts + i, mask=i < rows, other=0)
    start = tl.minimum(tl.maximum(start, 0), end)
    tl.store(first + i, start // TILE * TILE, mask=i < rows)
    tl.store(last + i, end, mask=i < rows)


def whole_tiles(starts: torch.Tensor, ends: torch.Tensor, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ranges of columns, cut to those there are, from the start of their first tile."""
    first, last = torch.empty_like(starts), torch.empty_like(ends)
    rows = starts.shape[0]
    _whole_tiles_kernel[(triton.cdiv(rows, 256),)](starts, ends, first, last, rows, columns, TILE=TILE, BLOCK=256)
    return first, last


@triton.jit
def _hide_before_kernel(logits, first, starts, columns, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.load(first + row) + tl.arange(0, TILE)
    hidden = (column < tl.load(starts + row)) & (column < columns)
    tl.store(logits + row * columns + column, tl.full((TILE,), float("-inf"), tl.float32), mask=hidden)


def hide_before(logits: torch.Tensor, first: torch.Tensor, starts: torch.Tensor) -> None:
    """-inf in the columns of a row's first tile that lie before its start."""
    rows, columns = logits.shape
    _hide_before_kernel[(rows,)](logits, first, starts, columns, TILE=TILE)


@triton.jit
def _owners_kernel(
    offsets, lengths, sequence, ends, tokens, sequences, next_n, most, RAGGED: tl.constexpr, BLOCK: tl.constexpr, MANY: tl.constexpr
):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if RAGGED:
        before = tl.zeros((BLOCK,), tl.int32)
        for b in range(0, sequences + 1, MANY):
            i = b + tl.arange(0, MANY)
            offset = tl.load(offsets + i, mask=i <= sequences, other=0x7FFFFFFF)
            before += tl.sum((offset[None, :] <= t[:, None]).to(tl.int32), axis=1)
        own = tl.minimum(tl.maximum(before - 1, 0), sequences - 1)
        behind = tl.load(offsets + own + 1) - 1 - t
        inside = (t >= tl.load(offsets)) & (behind >= 0)
    else:
        own = tl.minimum(t // next_n, sequences - 1)
        behind = next_n - 1 - t % next_n
        inside = behind >= 0
    end = tl.minimum(tl.maximum(tl.load(lengths + own) - behind, 0), most)
    tl.store(sequence + t, own, mask=t < tokens)
    tl.store(ends + t, tl.where(inside, end, 0), mask=t < tokens)


@triton.jit
def _paged_kernel(
    q, keys, scales, weights, tables, sequence, ends, out, columns, blocks, length, stride, heads,
    D: tl.constexpr, SIZE: tl.constexpr, PRESHUFFLE: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK
    key = first + tl.arange(0, BLOCK)
    end = tl.load(ends + row)
    if first >= end:
        tl.store(out + row * length + key, tl.full((BLOCK,), float("-inf"), tl.float32), mask=key < length)
    else:
        seen, place, d = key < end, key % SIZE, tl.arange(0, BLOCK_D)
        table = tables + tl.load(sequence + row).to(tl.int64) * columns
        block = tl.load(table + key // SIZE, mask=seen, other=0)
        start = tl.minimum(tl.maximum(block, 0), blocks - 1).to(tl.int64) * stride
        if PRESHUFFLE:  # tiles of 16 keys by 16 bytes
            byte = (place // 16 * (16 * D) + place % 16 * 16)[:, None] + (d // 16 * 256 + d % 16)[None, :]
        else:
            byte = (place * D)[:, None] + d[None, :]
        k = tl.load(keys + start[:, None] + byte, mask=seen[:, None] & (d < D)[None, :], other=0.0)
        scale = tl.load(scales + (start + SIZE * D) // 4 + place, mask=seen, other=0.0)
        total = tl.zeros((BLOCK,), tl.float32)
        for h0 in range(0, heads, BLOCK_H):
            h = h0 + tl.arange(0, BLOCK_H)
            mask = (h < heads)[:, None] & (d < D)[None, :]
            part = tl.load(q + (row * heads + h)[:, None] * D + d[None, :], mask=mask, other=0.0)
            weight = tl.load(weights + row * heads + h, mask=h < heads, other=0.0)
            # Without its option a maximum takes a NaN for less than anything.
            scores = tl.maximum(tl.dot(part, tl.trans(k)) * scale[None, :], 0.0, propagate_nan=tl.PropagateNan.ALL)
            total += tl.sum(scores * weight[:, None], axis=0)
        tl.store(out + row * length + key, tl.where(seen, total, float("-inf")), mask=key < length)


def paged(q, cache, weights, tables, lengths, offsets, preshuffle: bool, out) -> None:
    """Logits ``[T, N * bs]`` of queries ``[T, H, D]`` over a cache uint8 ``[nb, bs, W]``, into `out`."""
    (tokens, heads, dim), (blocks, size, width), (sequences, columns) = q.shape, cache.shape, tables.shape
    length = columns * size
    sequence, ends = (torch.empty((tokens,), dtype=torch.int32, device=q.device) for _ in range(2))
    ragged = offsets is not None
    _owners_kernel[(triton.cdiv(tokens, 64),)](
        offsets if ragged else lengths, lengths, sequence, ends, tokens, sequences, max(tokens // sequences, 1), length,
        RAGGED=ragged, BLOCK=64, MANY=64,
    )  # fmt: skip
    flat, block = cache.view(blocks, size * width), 64
    wide_h, wide_d = (triton.next_power_of_2(n) for n in (heads, dim))
    tile = {"BLOCK_H": min(max(wide_h, 16), 64), "BLOCK_D": max(wide_d, 32), "BLOCK": block}
    _paged_kernel[(tokens, triton.cdiv(length, block))](
        q, flat.view(q.dtype), flat.view(torch.float32), weights, tables, sequence, ends, out, columns, blocks, length,
        size * width, heads, D=dim, SIZE=size, PRESHUFFLE=preshuffle, **tile, num_warps=4, num_stages=1,
    )  # fmt: skip
