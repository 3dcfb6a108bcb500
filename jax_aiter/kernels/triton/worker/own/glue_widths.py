"""Rows of heads made wider with zeros, and narrow again, for kernels that know one head size for queries, keys and values."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _resize_kernel(src, dst, rows, old, new, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (column < new)
    x = tl.load(src + row * old + column, mask=inside & (column < old), other=0.0)
    tl.store(dst + row * new + column, x, mask=inside)


def resize(x: torch.Tensor, size: int, out: torch.Tensor | None = None) -> torch.Tensor:
    """Contiguous `x` with a last axis of `size`, cut or filled up with zeros; `x` itself if it has that and there is no `out`."""
    if x.shape[-1] == size and out is None:
        return x
    out = torch.empty((*x.shape[:-1], size), dtype=x.dtype, device=x.device) if out is None else out
    rows, block = x.numel() // x.shape[-1], triton.next_power_of_2(size)
    _resize_kernel[(triton.cdiv(rows, 16),)](x, out, rows, x.shape[-1], size, ROWS=16, BLOCK=block)
    return out
