"""Sums over the rows of each group: what a bias's gradient is."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

#: rows read at a time, and columns of a program.
ROWS, COLUMNS = 32, 64


@triton.jit
def _sums_kernel(
    src, weights, starts, counts, out, columns, apart, WEIGHTED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0).to(tl.int64)
    i, j = tl.arange(0, ROWS), tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    begin = tl.load(starts + group * apart).to(tl.int64)
    size = tl.load(counts + group)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for first in range(0, size, ROWS):
        inside = first + i < size
        row = begin + first + i
        value = tl.load(src + row[:, None] * columns + j[None, :], mask=inside[:, None] & (j < columns)[None, :], other=0.0)
        value = value.to(tl.float32)
        if WEIGHTED:
            value *= tl.load(weights + row, mask=inside, other=0.0)[:, None]
        total += value
    tl.store(out + group * columns + j, tl.sum(total, axis=0), mask=j < columns)


def sums(
    src: torch.Tensor, starts: torch.Tensor, counts: torch.Tensor, out: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """``out[g] = (weights[s:s + c, None] * src[s:s + c]).sum(0)`` in float32; s of `starts` (of any stride) and c of `counts`,
    int32 [G] and not negative. src [R, N], out [G, N], weights [R] or none."""
    groups, columns = out.shape
    grid = (groups, triton.cdiv(columns, COLUMNS))
    how = {"WEIGHTED": weights is not None, "ROWS": ROWS, "COLUMNS": COLUMNS}
    _sums_kernel[grid](src, weights, starts, counts, out, columns, starts.stride(0), **how)
    return out
