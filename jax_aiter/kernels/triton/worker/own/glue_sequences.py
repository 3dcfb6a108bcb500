"""Small Triton kernels of our own around AITER's linear attention, which trusts lines and leaves rows of nobody as they are."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _clear_unowned_kernel(out, bounds, lines, sequences, columns, SEQUENCES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    b = tl.arange(0, SEQUENCES)
    first = tl.load(bounds + b, mask=b < sequences, other=2147483647)
    end = tl.load(bounds + 1 + b, mask=b < sequences, other=0)
    line = tl.load(lines + b, mask=b < sequences, other=-1)
    owned = tl.sum(((first <= row) & (row < end) & (line >= 0)).to(tl.int32))
    if owned == 0:
        for start in range(0, columns, BLOCK):
            j = start + tl.arange(0, BLOCK)
            tl.store(out + row * columns + j, tl.zeros((BLOCK,), out.dtype.element_ty), mask=j < columns)


def clear_unowned(out: torch.Tensor, bounds: torch.Tensor, lines: torch.Tensor) -> torch.Tensor:
    """Zeroes the rows [T, D] that are in no sequence, or in one without a line (below 0). bounds: [N + 1]."""
    rows, sequences = out.shape[0], lines.shape[0]
    padded = triton.next_power_of_2(sequences)
    _clear_unowned_kernel[(rows,)](out, bounds, lines, sequences, out.numel() // rows, SEQUENCES=padded, BLOCK=1024)
    return out


@triton.jit
def _lines_of_short_kernel(bounds, lines, out, n, steps, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    sequence = i // steps
    first = tl.load(bounds + sequence, mask=i < n, other=0)
    end = tl.load(bounds + sequence + 1, mask=i < n, other=0)
    line = tl.load(lines + i, mask=i < n, other=-1)
    tl.store(out + i, tl.where(end - first <= steps, line, -1), mask=i < n)


def lines_of_short(bounds: torch.Tensor, lines: torch.Tensor) -> torch.Tensor:
    """Lines [N, S] with -1 for sequences of more than S tokens, which AITER's kernel would look up past their row."""
    out, n = torch.empty_like(lines), lines.numel()
    _lines_of_short_kernel[(triton.cdiv(n, 256),)](bounds, lines, out, n, lines.shape[1], BLOCK=256)
    return out
