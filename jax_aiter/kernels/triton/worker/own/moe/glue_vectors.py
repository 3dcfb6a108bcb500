"""A layer of few tokens, each slot by itself: two launches, from ids and weights as they come to the sum over slots.

So few slots seldom share an expert, and a product of one row is what its weights take to be read: no sorting, no tiles of rows that
are nearly all padding, nothing between the products, and each slot's expert is read once by each of them.
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
from jax_aiter.kernels.triton.worker.own.glue_activation import activated


@triton.jit
def _product(x, w, rows, inside, columns, stride, ROWS: tl.constexpr, BLOCK_K: tl.constexpr):
    """Of `columns` elements of x with each row of w, in float32. inside: of the rows, those that are there."""
    total = tl.zeros((ROWS, BLOCK_K), tl.float32)
    for start in range(0, columns, BLOCK_K):
        c = start + tl.arange(0, BLOCK_K)
        there = c < columns
        part = tl.load(w + rows.to(tl.int64)[:, None] * stride + c[None, :], mask=inside[:, None] & there[None, :], other=0.0)
        total += part.to(tl.float32) * tl.load(x + c, mask=there, other=0.0).to(tl.float32)[None, :]
    return tl.sum(total, axis=1)


@triton.jit
def _expert_columns_kernel(
    x, w, bias, ids, table, tokens, hidden, n, k, known, num_experts, model, read, inter, kept, limit,
    ACTIVATION: tl.constexpr, GATED: tl.constexpr, INTERLEAVED: tl.constexpr, CLAMPED: tl.constexpr, BIASED: tl.constexpr,
    HAS_TABLE: tl.constexpr, COUNTED: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    slot = tl.program_id(1)
    expert = expert_of(ids, table, tokens, slot, n, k, known, num_experts, HAS_TABLE, COUNTED).to(tl.int64)
    if expert < num_experts:
        j = tl.program_id(0) * BLOCK_I + tl.arange(0, BLOCK_I)
        inside = j < kept
        columns = inter * 2 if GATED else inter
        row = x + (slot // k).to(tl.int64) * model
        mine = w + expert * columns * model
        first = j * 2 if INTERLEAVED else j
        gate = _product(row, mine, first, inside, read, model, BLOCK_I, BLOCK_K)
        if BIASED:
            gate += tl.load(bias + expert * columns + first, mask=inside, other=0.0).to(tl.float32)
        if CLAMPED:  # written so that NaN stays NaN
            gate = tl.where(gate > limit, limit, gate)
        value = activated(gate, ACTIVATION)
        if GATED:
            second = first + 1 if INTERLEAVED else first + inter
            up = _product(row, mine, second, inside, read, model, BLOCK_I, BLOCK_K)
            if BIASED:
                up += tl.load(bias + expert * columns + second, mask=inside, other=0.0).to(tl.float32)
            if CLAMPED:
                up = tl.where(up > limit, limit, tl.where(up < -limit, -limit, up))
            value = value * (up + 1) if ACTIVATION == "swiglu" else value * up
        tl.store(hidden + slot.to(tl.int64) * kept + j, value.to(hidden.dtype.element_ty), mask=inside)


@triton.jit
def _joined_slots_kernel(
    hidden, w, bias, weights, ids, table, tokens, out, n, k, known, num_experts, model, read, inter, kept,
    BIASED: tl.constexpr, HAS_TABLE: tl.constexpr, COUNTED: tl.constexpr,
    SLOTS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(1)
    s = tl.arange(0, SLOTS)
    slot = tl.where(s < k, token * k + s, n)
    expert = expert_of(ids, table, tokens, slot, n, k, known, num_experts, HAS_TABLE, COUNTED).to(tl.int64)
    taken = expert < num_experts
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = d < read
    mine = w + expert[:, None, None] * model * inter + d.to(tl.int64)[None, :, None] * inter
    total = tl.zeros((SLOTS, BLOCK_D, BLOCK_K), tl.float32)
    for start in range(0, kept, BLOCK_K):
        c = start + tl.arange(0, BLOCK_K)
        there = taken[:, None] & (c < kept)[None, :]
        row = tl.load(hidden + slot.to(tl.int64)[:, None] * kept + c[None, :], mask=there, other=0.0).to(tl.float32)
        part = tl.load(mine + c[None, None, :], mask=there[:, None, :] & inside[None, :, None], other=0.0)
        total += part.to(tl.float32) * row[:, None, :]
    result = tl.sum(total, axis=2)
    if BIASED:
        at = expert[:, None] * model + d[None, :]
        result += tl.load(bias + at, mask=taken[:, None] & inside[None, :], other=0.0).to(tl.float32)
    result = tl.sum(result * tl.load(weights + slot, mask=taken, other=0.0)[:, None], axis=0)
    result = tl.where(inside, result, 0.0)  # a weight of NaN times nothing
    tl.store(out + token.to(tl.int64) * model + d, result.to(out.dtype.element_ty), mask=d < model)


class Between(NamedTuple):
    """What stands between the products. limit: of the values before the activation; None: they have none."""

    activation: str
    limit: float | None
    interleaved: bool


def layer(
    x: torch.Tensor,
    weights: tuple[torch.Tensor, torch.Tensor],
    biases: tuple[torch.Tensor | None, torch.Tensor | None],
    routing: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None],
    out: torch.Tensor,
    between: Between,
    pads: tuple[int, int],
    first: dict[str, int],
    second: dict[str, int],
) -> None:
    """x [T, D] into out [T, D] by w1 [E, 2I or I, D] and w2 [E, D, I]. routing: ids and weights [T, k], mask of experts, tokens.

    pads: the last of D and of I, which are not read; out has zeros there. first, second: of the products, BLOCK_I and BLOCK_D
    columns of their results, BLOCK_K of what is summed, and num_warps.
    """
    (tokens, model), (w1, w2), (topk_ids, topk_weight, mask, count) = x.shape, weights, routing
    (experts, _, inter), n, k = w2.shape, topk_ids.numel(), topk_ids.shape[1]
    known = experts if mask is None else mask.numel()
    table = topk_ids if mask is None else expert_table(mask, experts)
    read, kept = model - pads[0], inter - pads[1]
    where = (topk_ids, table, topk_ids if count is None else count)
    sizes = (n, k, known, experts, model, read, inter, kept)
    routed = {"HAS_TABLE": mask is not None, "COUNTED": count is not None}
    hidden = torch.empty((n, kept), dtype=x.dtype, device="meta")
    _expert_columns_kernel[(triton.cdiv(kept, first["BLOCK_I"]), n)](
        x, w1, w1 if biases[0] is None else biases[0], *where, hidden, *sizes, 0.0 if between.limit is None else between.limit,
        ACTIVATION=between.activation, GATED=w1.shape[1] != inter, INTERLEAVED=between.interleaved,
        CLAMPED=between.limit is not None, BIASED=biases[0] is not None, **routed, **first,
    )  # fmt: skip
    _joined_slots_kernel[(triton.cdiv(model, second["BLOCK_D"]), tokens)](
        hidden, w2, w2 if biases[1] is None else biases[1], topk_weight, *where, out, *sizes,
        BIASED=biases[1] is not None, **routed, SLOTS=triton.next_power_of_2(k), **second,
    )  # fmt: skip
