"""Kernels of a mixture's backward between its products: a pass over each slot's row of the intermediate, and rows put in order."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

from jax_aiter.kernels.triton.worker.own.glue_activation import activated, passed, slope
from jax_aiter.kernels.triton.worker.own.glue_rows import warps


@triton.jit
def _pull_kernel(
    gate_up, q, weights, ids, places, bias1, bias2, d_out, d_u, weighted, d_weights, sorted_weights,
    inter, model, num_experts, limit,
    ACTIVATION: tl.constexpr, GATED: tl.constexpr, INTERLEAVED: tl.constexpr, CLAMPED: tl.constexpr,
    BIAS1: tl.constexpr, BIAS2: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    slot = tl.program_id(0).to(tl.int64)
    expert = tl.load(ids + slot).to(tl.int64)
    taken = expert < num_experts
    row = tl.load(places + slot, mask=taken, other=0).to(tl.int64)
    weight = tl.load(weights + slot, mask=taken, other=0.0)
    columns = inter * 2 if GATED else inter
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, inter, BLOCK):
        j = start + tl.arange(0, BLOCK)
        inside = (j < inter) & taken
        first = j * 2 if INTERLEAVED else j
        gate = tl.load(gate_up + slot * columns + first, mask=inside, other=0.0).to(tl.float32)
        if BIAS1:
            gate += tl.load(bias1 + expert * columns + first, mask=inside, other=0.0).to(tl.float32)
        cotangent = tl.load(q + slot * inter + j, mask=inside, other=0.0).to(tl.float32)
        through = 1.0
        if CLAMPED:  # written so that NaN stays NaN
            through = passed(gate, limit)
            gate = tl.where(gate > limit, limit, gate)
        value = activated(gate, ACTIVATION)
        d_gate = slope(gate, ACTIVATION) * through
        if GATED:
            second = first + 1 if INTERLEAVED else first + inter
            up = tl.load(gate_up + slot * columns + second, mask=inside, other=0.0).to(tl.float32)
            if BIAS1:
                up += tl.load(bias1 + expert * columns + second, mask=inside, other=0.0).to(tl.float32)
            through_up = 1.0
            if CLAMPED:
                through_up = passed(up, limit) * passed(-up, limit)
                up = tl.where(up > limit, limit, tl.where(up < -limit, -limit, up))
            factor = up + 1 if ACTIVATION == "swiglu" else up
            d_up = value * through_up
            value, d_gate = value * factor, d_gate * factor
            tl.store(d_u + row * columns + second, (d_up * cotangent * weight).to(d_u.dtype.element_ty), mask=inside)
        tl.store(d_u + row * columns + first, (d_gate * cotangent * weight).to(d_u.dtype.element_ty), mask=inside)
        tl.store(weighted + row * inter + j, (value * weight).to(weighted.dtype.element_ty), mask=inside)
        total += tl.where(inside, value * cotangent, 0.0)
    if BIAS2:  # the output that the slot's weight multiplies has it too, and its gradient needs the weight row by row
        for start in range(0, model, BLOCK):
            j = start + tl.arange(0, BLOCK)
            inside = (j < model) & taken
            by = tl.load(bias2 + expert * model + j, mask=inside, other=0.0).to(tl.float32)
            total += tl.load(d_out + slot // K * model + j, mask=inside, other=0.0).to(tl.float32) * by
        tl.store(sorted_weights + row, weight, mask=taken)
    tl.store(d_weights + slot, tl.sum(total))


def pull(
    gate_up: torch.Tensor,
    q: torch.Tensor,
    weights: torch.Tensor,
    ids: torch.Tensor,
    places: torch.Tensor,
    d_out: torch.Tensor,
    biases: tuple[torch.Tensor | None, torch.Tensor | None],
    d_weights: torch.Tensor,
    rows: int,
    *,
    num_experts: int,
    activation: str,
    limit: float | None,
    interleaved: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The cotangents [rows, 2I] of the first product (`gate_up`, [T·k, 2I] or [T·k, I]), the activation times its slot's weight
    [rows, I] and, with a second bias, the weight itself [rows], slot i at row places[i]; and into `d_weights` those of the weights,
    zero for slots of no expert (num_experts in `ids`), of which nothing is read and no row written. q: [T·k, I], what the slots'
    outputs pull back without their weights. d_out: [T, D]. biases: [E, 2I] and [E, D], added to both products."""
    (slots, inter), (tokens, model), (bias1, bias2) = q.shape, d_out.shape, biases
    d_u, weighted = (torch.empty((rows, n), dtype=q.dtype, device="meta") for n in (gate_up.shape[1], inter))
    sorted_weights = None if bias2 is None else torch.empty((rows,), dtype=torch.float32, device="meta")
    block = columns_at_once(inter)
    _pull_kernel[(slots,)](
        gate_up,
        q,
        weights,
        ids,
        places,
        bias1,
        bias2,
        d_out,
        d_u,
        weighted,
        d_weights,
        sorted_weights,
        inter,
        model,
        num_experts,
        0.0 if limit is None else limit,
        ACTIVATION=activation,
        GATED=gate_up.shape[1] != inter,
        INTERLEAVED=interleaved,
        CLAMPED=limit is not None,
        BIAS1=bias1 is not None,
        BIAS2=bias2 is not None,
        K=slots // tokens,
        BLOCK=block,
        num_warps=warps(block),
    )
    return d_u, weighted, sorted_weights


@triton.jit
def _placed_kernel(src, ids, places, out, columns, num_experts, K: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(src + token * columns + j, mask=j < columns, other=0.0).to(out.dtype.element_ty)
    for k in tl.static_range(K):
        slot = token * K + k
        row = tl.load(places + slot).to(tl.int64)
        taken = tl.load(ids + slot) < num_experts
        tl.store(out + row * columns + j, value, mask=(j < columns) & taken)


def placed(src: torch.Tensor, ids: torch.Tensor, places: torch.Tensor, out: torch.Tensor, num_experts: int) -> torch.Tensor:
    """Into out [rows, N], in the order of `places`, each slot's token of src [T, N]; of slots of no expert nothing."""
    tokens, columns = src.shape
    block = min(1024, triton.next_power_of_2(columns))
    grid = (tokens, triton.cdiv(columns, block))
    _placed_kernel[grid](src, ids, places, out, columns, num_experts, K=ids.shape[1], BLOCK=block)
    return out


def columns_at_once(columns: int) -> int:
    """A power of two from 256 to 1024 that leaves little of its last block empty."""
    return min((256, 512, 1024), key=lambda block: (-(-columns // block) * block, -block))
