"""Routing by softmax in one launch: a row's experts are chosen one after the other, in registers."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _chosen_experts_kernel(
    logits, weights, ids, experts, K: tl.constexpr, RENORM: tl.constexpr, SLOTS: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    i, slot = tl.arange(0, BLOCK), tl.arange(0, SLOTS)
    inside = i < experts
    x = tl.load(logits + row * experts + i, mask=inside, other=float("-inf")).to(tl.float32)
    x = tl.where(inside, x, float("-inf"))
    # A NaN, which no order has, is as low as can be: it makes the sum NaN, and with it every weight.
    order = tl.where(x == x, x, float("-inf"))
    top = tl.max(order, axis=0)
    e = tl.where(inside, tl.exp(x - top), 0.0)
    total = tl.sum(e, axis=0)
    left = inside
    chosen, values = tl.zeros((SLOTS,), tl.int32), tl.zeros((SLOTS,), tl.float32)
    for k in tl.range(K):
        best = tl.max(tl.where(left, order, float("-inf")), axis=0)
        expert = tl.min(tl.where(left & (order == best), i, BLOCK), axis=0)
        left = left & (i != expert)
        chosen = tl.where(slot == k, expert, chosen)
        values = tl.where(slot == k, tl.exp(best - top), values)
    # The sum of all is NaN where one is, infinity over infinity too.
    values = values / tl.sum(values, axis=0) + (total - total) if RENORM else values / total
    at = row * K + slot
    tl.store(weights + at, values, mask=slot < K)
    tl.store(ids + at, chosen, mask=slot < K)


def chosen_experts(
    logits: torch.Tensor, renormalize: bool, weights: torch.Tensor, ids: torch.Tensor, config: dict[str, int]
) -> None:
    """Of logits [T, E] the k largest of each row into ids int32 [T, k], equals by number, their softmax into float32 weights."""
    (rows, experts), k = logits.shape, ids.shape[1]
    _chosen_experts_kernel[(rows,)](
        logits,
        weights,
        ids,
        experts,
        K=k,
        RENORM=renormalize,
        SLOTS=triton.next_power_of_2(k),
        BLOCK=triton.next_power_of_2(experts),
        **config,
    )
