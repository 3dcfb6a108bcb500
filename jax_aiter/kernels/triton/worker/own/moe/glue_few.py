"""What AITER's grouped GEMM is told of a few token slots, in one launch: each slot has a block of its own.

Sorting them by expert, as `glue_sort` does, takes a fill and three launches, which for one token is an eighth of a layer's time.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

from jax_aiter.kernels.triton.worker.own.glue import expert_of, expert_table
from jax_aiter.kernels.triton.worker.own.glue_sort import Sorted


@triton.jit
def _few_slots_kernel(
    ids, table, tokens, local, order, blocks, padded, taken, n, k, limit, num_experts,
    HAS_TABLE: tl.constexpr, COUNTED: tl.constexpr, SLOTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.arange(0, SLOTS)
    expert = expert_of(ids, table, tokens, i, n, k, limit, num_experts, HAS_TABLE, COUNTED)
    tl.store(local + i, expert, mask=i < n)
    held = (expert < num_experts).to(tl.int32)
    total = tl.sum(held)
    # Those of no expert come last, each kind in its order.
    before = tl.cumsum(held, axis=0) - held
    place = tl.where(held != 0, before, total + i - before)
    tl.store(blocks + place, tl.where(held != 0, expert, -1), mask=i < n)
    j = tl.arange(0, BLOCK)
    slot = tl.where(j[None, :] == 0, i[:, None], n)
    tl.store(order + place[:, None] * BLOCK + j[None, :], slot, mask=(i < n)[:, None])
    tl.store(padded, n * BLOCK)
    tl.store(taken, total * BLOCK)


def few_slots(
    topk_ids: torch.Tensor, mask: torch.Tensor | None, num_experts: int, num_tokens: torch.Tensor | None, block: int
) -> Sorted:
    """As `glue_sort.sorted_slots`, without totals, places and starts; blocks stand in the order of their slots."""
    n = topk_ids.numel()

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.int32, device="meta")

    local, order, blocks, padded, taken = empty(*topk_ids.shape), empty(n * block), empty(n), empty(1), empty(1)
    limit, has_table = num_experts if mask is None else mask.numel(), mask is not None
    table = topk_ids if mask is None else expert_table(mask, num_experts)
    tokens, counted = (topk_ids, False) if num_tokens is None else (num_tokens, True)
    given = (topk_ids, table, tokens, local, order, blocks, padded, taken, n, topk_ids.shape[-1], limit, num_experts)
    how = {"HAS_TABLE": has_table, "COUNTED": counted, "SLOTS": triton.next_power_of_2(n), "BLOCK": block}
    _few_slots_kernel[(1,)](*given, **how)
    return Sorted(local, order, blocks, padded, taken, None, None, None)
