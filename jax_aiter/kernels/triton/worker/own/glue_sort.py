"""Sorts an MoE layer's token slots by expert, in three launches of our own, or in one where a single program can rank them.

AITER's alignment kernels count and place with one program per expert that walks over its share of the slots one after the other,
each step waiting for memory: at 32,768 slots that takes longer than half of a layer's arithmetic. Here a program takes a chunk of
slots at once and ranks them by comparing all pairs. The order within an expert is that of the slots, so it is the same every time.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from jax_aiter.kernels.triton.worker.own.glue import expert_of, expert_table

#: slots that one program ranks, of few and of many: the square of it is what it compares, and what their counts take grows with the
#: number of chunks. By estimate an MI300X ranks 64 in 5 µs and 128 in 13.
CHUNK, LARGE_CHUNK, MANY = 64, 128, 1 << 12


@triton.jit
def _rank_slots_kernel(
    ids, table, tokens, local, ranks, counts, totals, n, k, limit, num_experts, chunks,
    HAS_TABLE: tl.constexpr, COUNTED: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    chunk, slot = tl.program_id(0), tl.arange(0, CHUNK)
    i = chunk * CHUNK + slot
    expert = expert_of(ids, table, tokens, i, n, k, limit, num_experts, HAS_TABLE, COUNTED)
    tl.store(local + i, expert, mask=i < n)
    expert = tl.where(i < n, expert, -1)
    same = expert[:, None] == expert[None, :]
    rank = tl.sum((same & (slot[None, :] < slot[:, None])).to(tl.int32), axis=1)
    after = tl.sum((same & (slot[None, :] > slot[:, None])).to(tl.int32), axis=1)
    tl.store(ranks + i, rank, mask=i < n)
    last = (i < n) & (after == 0)
    tl.store(counts + expert * chunks + chunk, rank + 1, mask=last)
    tl.atomic_add(totals + expert, rank + 1, mask=last, sem="relaxed")


@triton.jit
def _place_experts_kernel(
    counts, totals, order, blocks, padded, taken, n, chunks, num_experts,
    BLOCK: tl.constexpr, BINS: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    expert, bins = tl.program_id(0), tl.arange(0, BINS)
    total = tl.load(totals + bins, mask=bins <= num_experts, other=0)
    rounded = (total + BLOCK - 1) // BLOCK * BLOCK
    start = tl.sum(tl.where(bins < expert, rounded, 0))
    size = tl.sum(tl.where(bins == expert, total, 0))
    end = start + (size + BLOCK - 1) // BLOCK * BLOCK
    if expert == 0:
        tl.store(padded, tl.sum(rounded))
        tl.store(taken, tl.sum(tl.where(bins < num_experts, rounded, 0)))
    # Of no expert: AITER's GEMM answers such blocks with zeros.
    named = tl.where(expert == num_experts, -1, expert)
    block = start // BLOCK + tl.arange(0, 128)
    while tl.min(block) < end // BLOCK:
        tl.store(blocks + block, tl.zeros((128,), tl.int32) + named, mask=block < end // BLOCK)
        block += 128
    rest = start + size + tl.arange(0, BLOCK)
    tl.store(order + rest, tl.zeros((BLOCK,), tl.int32) + n, mask=rest < end)
    chunk = tl.arange(0, CHUNKS)
    count = tl.load(counts + expert * chunks + chunk, mask=chunk < chunks, other=0)
    tl.store(counts + expert * chunks + chunk, start + tl.cumsum(count, axis=0) - count, mask=chunk < chunks)


@triton.jit
def _place_slots_kernel(local, ranks, starts, order, n, chunks, KEPT: tl.constexpr, CHUNK: tl.constexpr):
    chunk = tl.program_id(0)
    i = chunk * CHUNK + tl.arange(0, CHUNK)
    expert = tl.load(local + i, mask=i < n, other=0)
    place = tl.load(starts + expert * chunks + chunk, mask=i < n, other=0) + tl.load(ranks + i, mask=i < n, other=0)
    tl.store(order + place, i, mask=i < n)
    if KEPT:
        tl.store(ranks + i, place, mask=i < n)


@triton.jit
def _sort_slots_kernel(
    ids, table, tokens, local, order, blocks, padded, taken, n, k, limit, num_experts,
    HAS_TABLE: tl.constexpr, COUNTED: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.arange(0, CHUNK)
    expert = expert_of(ids, table, tokens, i, n, k, limit, num_experts, HAS_TABLE, COUNTED)
    tl.store(local + i, expert, mask=i < n)
    expert = tl.where(i < n, expert, num_experts + 1)  # behind all others
    same = expert[:, None] == expert[None, :]
    earlier, later = (same & (i[None, :] < i[:, None])).to(tl.int32), (same & (i[None, :] > i[:, None])).to(tl.int32)
    rank, last = tl.sum(earlier, axis=1), tl.sum(later, axis=1) == 0
    # A slot that is the first of a block, seen as a row and as a column: what is before it is how many such are of lesser experts.
    begins = (tl.sum(later, axis=0) % BLOCK == 0) & (i < n)
    before = tl.sum(((expert[None, :] < expert[:, None]) & begins[None, :]).to(tl.int32), axis=1)
    block = before + rank // BLOCK
    tl.store(blocks + block, tl.where(expert < num_experts, expert, -1), mask=(i < n) & (rank % BLOCK == 0))
    tl.store(order + block * BLOCK + rank % BLOCK, i, mask=i < n)
    j = tl.arange(0, BLOCK)
    rest = ((i < n) & last)[:, None] & (j[None, :] > (rank % BLOCK)[:, None])
    tl.store(order + block[:, None] * BLOCK + j[None, :], tl.zeros((CHUNK, BLOCK), tl.int32) + n, mask=rest)
    tl.store(padded, tl.sum(begins.to(tl.int32)) * BLOCK)
    tl.store(taken, tl.sum((begins & (expert < num_experts)).to(tl.int32)) * BLOCK)


@triton.jit
def _less_kernel(count, out, taken):
    tl.store(out, tl.maximum(tl.load(count) - taken, 0))


def less(count: torch.Tensor, taken: int) -> torch.Tensor:
    """A count [1] without the first `taken`, and no less than 0."""
    out = torch.empty((1,), dtype=torch.int32, device="meta")
    _less_kernel[(1,)](count, out, taken)
    return out


class Sorted(NamedTuple):
    """local: the number of each slot's expert among those held here, num_experts for none. order: slots by expert, each expert's
    padded to whole blocks with the number of slots. blocks: the expert of each block, -1 for none. padded: [1], how many slots
    there are with the padding. taken: [1], the same without those of no expert, which come last. totals: [E + 1], how many slots
    each expert has. places: where in `order` each slot stands. starts: [E + 1] of a stride, where each expert begins there."""

    local: torch.Tensor
    order: torch.Tensor
    blocks: torch.Tensor
    padded: torch.Tensor
    taken: torch.Tensor
    totals: torch.Tensor | None
    places: torch.Tensor | None
    starts: torch.Tensor | None


def sorted_slots(
    topk_ids: torch.Tensor,
    mask: torch.Tensor | None,
    num_experts: int,
    num_tokens: torch.Tensor | None,
    block: int,
    *,
    places: bool = False,
) -> Sorted:
    """Slots by the expert that they name and that is held here: of none are ids that are out of range, masked out, or past
    num_tokens ([1]). places: whether those are wanted, and with them totals and starts."""
    n, experts = topk_ids.numel(), num_experts + 1
    chunk = min(LARGE_CHUNK if n > MANY else CHUNK, max(triton.next_power_of_2(n), 16))
    chunks, padded = triton.cdiv(n, chunk), n + experts * (block - 1)

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.int32, device="meta")

    local, ranks, order, blocks, count, taken = (
        empty(*topk_ids.shape),
        empty(n),
        empty(padded),
        empty(triton.cdiv(padded, block)),
        empty(1),
        empty(1),
    )
    limit, has_table = num_experts if mask is None else mask.numel(), mask is not None
    table = topk_ids if mask is None else expert_table(mask, num_experts)
    tokens, counted = (topk_ids, False) if num_tokens is None else (num_tokens, True)
    if chunks == 1 and not places:
        one = (topk_ids, table, tokens, local, order, blocks, count, taken, n, topk_ids.shape[-1], limit, num_experts)
        _sort_slots_kernel[(1,)](*one, HAS_TABLE=has_table, COUNTED=counted, CHUNK=chunk, BLOCK=block, num_warps=8)
        return Sorted(local, order, blocks, count, taken, None, None, None)
    aside = triton.cdiv(experts, 4) * 4  # so that both begin at 16 bytes
    sums = torch.zeros((aside + experts * chunks,), dtype=torch.int32, device="meta")
    totals, counts = sums[:experts], sums[aside:]
    given = (topk_ids, table, tokens, local, ranks, counts, totals, n, topk_ids.shape[-1], limit, num_experts, chunks)
    _rank_slots_kernel[(chunks,)](*given, HAS_TABLE=has_table, COUNTED=counted, CHUNK=chunk, num_warps=8)
    sizes = {"BLOCK": block, "BINS": triton.next_power_of_2(experts), "CHUNKS": triton.next_power_of_2(chunks)}
    _place_experts_kernel[(experts,)](counts, totals, order, blocks, count, taken, n, chunks, num_experts, **sizes)
    _place_slots_kernel[(chunks,)](local, ranks, counts, order, n, chunks, KEPT=places, CHUNK=chunk)
    starts = counts.view(experts, chunks)[:, 0]
    return Sorted(local, order, blocks, count, taken, totals, ranks if places else None, starts)
