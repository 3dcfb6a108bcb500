"""Small Triton kernels of our own around AITER's cache writers, which take every slot for a right one and round without a bound."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _slots_kernel(src, dst, n, capacity, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    slot = tl.load(src + i, mask=i < n, other=0)
    tl.store(dst + i, tl.where((slot >= 0) & (slot < capacity), slot, -1), mask=i < n)


def slots(slot_mapping: torch.Tensor, capacity: int) -> torch.Tensor:
    """Slots with -1, which AITER's kernels skip, for every one that the cache does not have."""
    out = torch.empty_like(slot_mapping)
    n = slot_mapping.numel()
    _slots_kernel[(triton.cdiv(n, 1024),)](slot_mapping, out, n, capacity, BLOCK=1024)
    return out


@triton.jit
def _bounded_kernel(src, scale, dst, n, TOP: tl.constexpr, HAVE_SCALE: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(src + i, mask=i < n, other=0.0)
    limit = TOP * tl.load(scale) if HAVE_SCALE else TOP
    wide = x.to(tl.float32)
    wide = tl.where(wide > limit, limit, tl.where(wide < -limit, -limit, wide))  # NaN stays
    tl.store(dst + i, wide.to(dst.dtype.element_ty), mask=i < n)


def bounded(x: torch.Tensor, scale: torch.Tensor | None, top: float) -> torch.Tensor:
    """x within ``top * scale``, the most that fp8 holds of it.

    The bound is rounded to the dtype of x: by less than half the spacing of fp8 at its top, to which it is then rounded.
    """
    out, n = torch.empty_like(x), x.numel()
    given = x if scale is None else scale
    _bounded_kernel[(triton.cdiv(n, 1024),)](x, given, out, n, TOP=top, HAVE_SCALE=scale is not None, BLOCK=1024)
    return out


@triton.jit
def _turn_skipped_kernel(
    x, positions, cos, sin, slots, out, heads, columns, HALF: tl.constexpr, NEOX: tl.constexpr, REUSE: tl.constexpr
):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    if tl.load(slots + row) < 0:
        pair = tl.arange(0, HALF)
        first, second = (pair, pair + HALF) if NEOX else (2 * pair, 2 * pair + 1)
        at = tl.load(positions + row).to(tl.int64) * columns
        left, right = (pair, pair) if REUSE else (first, second)
        base = (row * heads + head) * (2 * HALF)
        a, b = tl.load(x + base + first).to(tl.float32), tl.load(x + base + second).to(tl.float32)
        ca, sa = tl.load(cos + at + left).to(tl.float32), tl.load(sin + at + left).to(tl.float32)
        cb, sb = tl.load(cos + at + right).to(tl.float32), tl.load(sin + at + right).to(tl.float32)
        tl.store(out + base + first, (a * ca - b * sa).to(out.dtype.element_ty))
        tl.store(out + base + second, (b * cb + a * sb).to(out.dtype.element_ty))


def turn_skipped(x, positions, cos, sin, slots, out, neox: bool, reuse: bool) -> None:
    """Rotates the keys [T, heads, D] of tokens without a slot, whose rows AITER's kernels leave as they are."""
    rows, heads, columns = x.shape
    _turn_skipped_kernel[(rows, heads)](
        x, positions, cos, sin, slots, out, heads, cos.shape[1], HALF=columns // 2, NEOX=neox, REUSE=reuse, num_warps=1
    )
