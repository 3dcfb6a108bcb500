"""A small Triton kernel of our own that makes group sizes safe for AITER's grouped GEMMs, which trust them."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _group_bounds_kernel(given, sizes, bounds, groups, rows, BLOCK: tl.constexpr):
    g = tl.arange(0, BLOCK)
    size = tl.load(given + g, mask=g < groups, other=0)
    size = tl.minimum(tl.maximum(size, 0), rows).to(tl.int64)
    ends = tl.cumsum(size, 0)
    last = tl.minimum(ends, rows)
    tl.store(sizes + g, (last - tl.minimum(ends - size, rows)).to(tl.int32), mask=g < groups)
    tl.store(bounds + 1 + g, last.to(tl.int32), mask=g < groups)
    tl.store(bounds, 0)


def group_bounds(group_sizes: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sizes of which none is negative and which end with the last row, and their cumulative sums from 0 on, as int32."""
    groups = group_sizes.shape[0]
    sizes, bounds = (torch.empty((n,), dtype=torch.int32, device="meta") for n in (groups, groups + 1))
    _group_bounds_kernel[(1,)](group_sizes, sizes, bounds, groups, rows, BLOCK=triton.next_power_of_2(groups))
    return sizes, bounds
