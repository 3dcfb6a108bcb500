"""The k largest of each row by a Triton kernel of our own, exact for any k: a radix search for the k-th, then a sweep in order."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

#: columns that a program reads at once.
BLOCK = 2048


@triton.jit
def _key(logits, column, inside):
    """Unsigned, ascending where the float descends, as AITER's selection orders bits: -0 behind 0, NaN beyond its infinity."""
    bits = tl.load(logits + column, mask=inside, other=0.0).to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits, bits ^ 0x7FFFFFFF).to(tl.uint32, bitcast=True)


@triton.jit
def _row_top_k_kernel(
    logits, starts, ends, out, columns, k, next_n, RANGES: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0)
    if RANGES:
        end = tl.minimum(tl.maximum(tl.load(ends + row), 0), columns)
        start = tl.minimum(tl.maximum(tl.load(starts + row), 0), end)
    else:  # of the tokens of a sequence, each sees one more than the one before it
        end = tl.minimum(tl.maximum(tl.load(ends + row // next_n), 0), columns) - next_n + 1 + row % next_n
        end = tl.maximum(end, 0)
        start = end * 0
    logits += row.to(tl.int64) * columns
    out += row.to(tl.int64) * k
    i = tl.arange(0, BLOCK)
    taken = tl.minimum(end - start, k)
    if end - start <= k:
        for first in range(0, taken, BLOCK):
            tl.store(out + first + i, start + first + i, mask=first + i < taken)
    else:
        # The k-th key by digits of 8 bits from the highest: `kth` has those that are known, `left` is how many keys are wanted of
        # those that begin so.
        kth, left = tl.zeros((1,), tl.uint32), k + tl.zeros((1,), tl.int32)
        for shift in tl.static_range(24, -1, -8):
            counts = tl.zeros((256,), tl.int32)
            for first in range(start, end, BLOCK):
                inside = first + i < end
                key = _key(logits, first + i, inside)
                if shift < 24:
                    inside &= (key >> (shift + 8)) == (kth >> (shift + 8))
                counts += tl.histogram(((key >> shift) & 255).to(tl.int32), 256, mask=inside)
            upto = tl.cumsum(counts, axis=0)
            below = upto < left
            digit = tl.sum(below.to(tl.int32), axis=0)
            left -= tl.sum(tl.where(below, counts, 0), axis=0)
            kth |= (digit << shift).to(tl.uint32)
        place, ties = tl.zeros((1,), tl.int32), tl.zeros((1,), tl.int32)
        for first in range(start, end, BLOCK):
            inside = first + i < end
            key = _key(logits, first + i, inside)
            tie = (inside & (key == kth)).to(tl.int32)
            # Of those equal to the k-th, the lowest columns.
            chosen = ((inside & (key < kth)) | ((tie > 0) & (ties + tl.cumsum(tie, axis=0) <= left))).to(tl.int32)
            tl.store(out + place + tl.cumsum(chosen, axis=0) - 1, first + i, mask=chosen > 0)
            place += tl.sum(chosen, axis=0)
            ties += tl.sum(tie, axis=0)
    for first in range(taken, k, BLOCK):
        tl.store(out + first + i, tl.full((BLOCK,), -1, tl.int32), mask=first + i < k)


def top_k(logits: torch.Tensor, starts: torch.Tensor | None, ends: torch.Tensor, next_n: int, out: torch.Tensor) -> None:
    """Columns ``[T, k]`` of logits ``[T, L]`` between starts and ends ``[T]``, or, starts None, up to the lengths ``[T / next_n]``.

    In ascending order, then -1; of equals the lowest columns.
    """
    rows, columns = logits.shape
    ranges, block = starts is not None, min(max(triton.next_power_of_2(columns), 256), BLOCK)
    given = (logits, starts if ranges else ends, ends, out, columns, out.shape[1], next_n)
    _row_top_k_kernel[(rows,)](*given, RANGES=ranges, BLOCK=block, num_warps=8, num_stages=1)
