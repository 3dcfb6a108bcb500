"""Small Triton kernels of our own that join AITER's where its host code would use torch, or assumes valid data."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _convert_kernel(src, dst, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(dst + i, tl.load(src + i, mask=i < n).to(dst.dtype.element_ty), mask=i < n)


def convert(src: torch.Tensor, dtype: torch.dtype, dst: torch.Tensor | None = None) -> torch.Tensor:
    """`src` (contiguous) converted to `dtype`."""
    if src.dtype == dtype and dst is None:
        return src
    if dst is None:
        dst = torch.empty(src.shape, dtype=dtype, device=src.device)
    n = src.numel()
    _convert_kernel[(triton.cdiv(n, 1024),)](src, dst, n, BLOCK=1024)
    return dst


@triton.jit
def _local_experts_kernel(ids, mask, out, n, num_experts, HAS_MASK: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    expert = tl.load(ids + i, mask=i < n, other=-1)
    valid = (expert >= 0) & (expert < num_experts)
    if HAS_MASK:
        valid = valid & (tl.load(mask + expert, mask=valid, other=0) != 0)
    tl.store(out + i, tl.where(valid, expert, num_experts).to(tl.int32), mask=i < n)


def local_experts(topk_ids: torch.Tensor, mask: torch.Tensor | None, num_experts: int) -> torch.Tensor:
    """Expert ids with every id outside [0, num_experts) or masked out replaced by num_experts (AITER indexes with it)."""
    out = torch.empty(topk_ids.shape, dtype=torch.int32, device=topk_ids.device)
    n = topk_ids.numel()
    has_mask = mask is not None
    _local_experts_kernel[(triton.cdiv(n, 256),)](
        topk_ids, mask if has_mask else topk_ids, out, n, num_experts, HAS_MASK=has_mask, BLOCK=256
    )
    return out


@triton.jit
def _skip_blocks_kernel(experts, n, num_experts, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    expert = tl.load(experts + i, mask=i < n, other=0)
    tl.store(experts + i, -1, mask=(i < n) & (expert == num_experts))


def skip_blocks(experts: torch.Tensor, num_experts: int) -> None:
    """Marks the blocks of the expert that is not there with -1, which AITER's MoE GEMM answers with zeros."""
    n = experts.numel()
    _skip_blocks_kernel[(triton.cdiv(n, 256),)](experts, n, num_experts, BLOCK=256)


@triton.jit
def _sum_slots_kernel(parts, out, columns, K: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for k in tl.static_range(K):
        total += tl.load(parts + (row * K + k) * columns + j, mask=j < columns, other=0.0).to(tl.float32)
    tl.store(out + row * columns + j, total.to(out.dtype.element_ty), mask=j < columns)


def sum_slots(parts: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """[T, k, N] summed over k into [T, N], in float32."""
    tokens, slots, columns = parts.shape
    block = min(1024, triton.next_power_of_2(columns))
    _sum_slots_kernel[(tokens, triton.cdiv(columns, block))](parts, out, columns, K=slots, BLOCK=block)
    return out


@triton.jit
def _iota_kernel(out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, i, mask=i < n)


def iota(n: int) -> torch.Tensor:
    """0, 1, ..., n - 1 as int32."""
    out = torch.empty((n,), dtype=torch.int32, device="meta")
    _iota_kernel[(triton.cdiv(n, 256),)](out, n, BLOCK=256)
    return out


@triton.jit
def _clear_empty_kernel(out, lengths, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    if tl.load(lengths + row) <= 0:
        for start in range(0, columns, BLOCK):
            j = start + tl.arange(0, BLOCK)
            tl.store(out + row * columns + j, tl.zeros((BLOCK,), out.dtype.element_ty), mask=j < columns)


def clear_empty(out: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Zeroes the rows of sequences of length 0, for which AITER's decode kernels divide 0 by 0."""
    rows = out.shape[0]
    _clear_empty_kernel[(rows,)](out, lengths, out.numel() // rows, BLOCK=1024)
    return out


@triton.jit
def _sequence_lengths_kernel(indptr, last_page_lens, out, n, PAGE: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pages = tl.load(indptr + i + 1, mask=i < n, other=0) - tl.load(indptr + i, mask=i < n, other=0)
    last = tl.load(last_page_lens + i, mask=i < n, other=0)
    tl.store(out + i, tl.where(pages > 0, (pages - 1) * PAGE + last, 0), mask=i < n)


def sequence_lengths(kv_indptr: torch.Tensor, kv_last_page_lens: torch.Tensor, page_size: int) -> torch.Tensor:
    """Tokens per sequence from the page lists' bounds and the fill of each last page."""
    n = kv_last_page_lens.shape[0]
    out = torch.empty((n,), dtype=torch.int32, device=kv_indptr.device)
    _sequence_lengths_kernel[(triton.cdiv(n, 256),)](kv_indptr, kv_last_page_lens, out, n, PAGE=page_size, BLOCK=256)
    return out


@triton.jit
def _clip_kernel(src, dst, n, limit, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(src + i, mask=i < n, other=0)
    tl.store(dst + i, tl.minimum(tl.maximum(value, 0), limit), mask=i < n)


def clip(src: torch.Tensor, limit: int) -> torch.Tensor:
    """Integers bounded to [0, limit], for indices AITER's kernels use unchecked."""
    dst = torch.empty_like(src)
    n = src.numel()
    _clip_kernel[(triton.cdiv(n, 1024),)](src, dst, n, limit, BLOCK=1024)
    return dst
