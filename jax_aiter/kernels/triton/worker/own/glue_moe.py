"""Triton kernels of our own around AITER's grouped GEMM: biases, activations that it has no kernel for, padding."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

from jax_aiter.kernels.triton.worker.own.glue_activation import activated


@triton.jit
def _column(x, bias, row, expert, columns, at, mask, taken, BIASED: tl.constexpr):
    """x[row, at], plus the expert's own bias there."""
    value = tl.load(x + row * columns + at, mask=mask, other=0.0).to(tl.float32)
    if BIASED:
        value += tl.load(bias + expert * columns + at, mask=mask & taken, other=0.0).to(tl.float32)
    return value


@triton.jit
def _activate_kernel(
    x,
    bias,
    ids,
    y,
    inter,
    kept,
    num_experts,
    limit,
    ACTIVATION: tl.constexpr,
    GATED: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    CLAMPED: tl.constexpr,
    BIASED: tl.constexpr,
    SOME: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    expert = tl.load(ids + row).to(tl.int64)
    taken = expert < num_experts
    inside = (j < kept) & taken if SOME else j < kept
    columns = inter * 2 if GATED else inter
    first = j * 2 if INTERLEAVED else j
    gate = _column(x, bias, row, expert, columns, first, inside, taken, BIASED)
    if CLAMPED:  # written so that NaN stays NaN
        gate = tl.where(gate > limit, limit, gate)
    value = activated(gate, ACTIVATION)
    if GATED:
        second = first + 1 if INTERLEAVED else first + inter
        up = _column(x, bias, row, expert, columns, second, inside, taken, BIASED)
        if CLAMPED:
            up = tl.where(up > limit, limit, tl.where(up < -limit, -limit, up))
        value = value * (up + 1) if ACTIVATION == "swiglu" else value * up
    tl.store(y + row * kept + j, value.to(y.dtype.element_ty), mask=inside)


def activate(
    x: torch.Tensor,
    bias: torch.Tensor | None,
    ids: torch.Tensor,
    *,
    num_experts: int,
    inter: int,
    pad: int,
    activation: str,
    limit: float | None,
    interleaved: bool,
    some: bool = False,
) -> torch.Tensor:
    """[T·k, 2I] or [T·k, I] into [T·k, I - pad], computed in float32. ids: num_experts for slots of no expert, whose rows are
    neither read nor written with `some`."""
    rows, kept = x.shape[0], inter - pad
    gated = x.shape[1] != inter
    y = torch.empty((rows, kept), dtype=x.dtype, device=x.device)
    block = min(1024, triton.next_power_of_2(kept))
    biased, clamped = bias is not None, limit is not None
    _activate_kernel[(rows, triton.cdiv(kept, block))](
        x,
        x if bias is None else bias,
        ids,
        y,
        inter,
        kept,
        num_experts,
        0.0 if limit is None else limit,
        ACTIVATION=activation,
        GATED=gated,
        INTERLEAVED=interleaved,
        CLAMPED=clamped,
        BIASED=biased,
        SOME=some,
        BLOCK=block,
    )
    return y


@triton.jit
def _sum_biased_kernel(
    parts,
    bias,
    ids,
    weights,
    out,
    columns,
    kept,
    num_experts,
    K: tl.constexpr,
    BIASED: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SOME: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = j < kept
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for k in tl.static_range(K):
        slot = row * K + k
        expert = tl.load(ids + slot).to(tl.int64)
        taken = expert < num_experts
        total += tl.load(parts + slot * columns + j, mask=inside & taken if SOME else inside, other=0.0).to(tl.float32)
        if BIASED:
            term = tl.load(bias + expert * columns + j, mask=inside & taken, other=0.0).to(tl.float32)
            if WEIGHTED:
                term *= tl.load(weights + slot, mask=taken, other=0.0)
            total += term
    total = tl.where(inside, total, 0.0)  # a weight of NaN times no bias
    tl.store(out + row * columns + j, total.to(out.dtype.element_ty), mask=j < columns)


def sum_biased(
    parts: torch.Tensor,
    bias: torch.Tensor | None,
    ids: torch.Tensor,
    weights: torch.Tensor | None,
    out: torch.Tensor,
    *,
    num_experts: int,
    pad: int,
    some: bool,
) -> torch.Tensor:
    """[T, k, D], weighted already, summed over k into [T, D] with each slot's bias (times its weight); zeros in the last `pad`.
    With `some`, slots of no expert (num_experts) are not read."""
    tokens, slots, columns = parts.shape
    block = min(1024, triton.next_power_of_2(columns))
    biased, weighted = bias is not None, weights is not None
    _sum_biased_kernel[(tokens, triton.cdiv(columns, block))](
        parts,
        parts if bias is None else bias,
        ids,
        parts if weights is None else weights,
        out,
        columns,
        columns - pad,
        num_experts,
        K=slots,
        BIASED=biased,
        WEIGHTED=weighted,
        SOME=some,
        BLOCK=block,
    )
    return out


@triton.jit
def _first_columns_kernel(src, dst, columns, kept, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    tl.store(dst + row * kept + j, tl.load(src + row * columns + j, mask=j < kept, other=0.0), mask=j < kept)


def first_columns(x: torch.Tensor, kept: int) -> torch.Tensor:
    """[R, N] into [R, kept], for kernels that take a scale over whole rows."""
    rows, columns = x.shape
    out = torch.empty((rows, kept), dtype=x.dtype, device=x.device)
    block = min(1024, triton.next_power_of_2(kept))
    _first_columns_kernel[(rows, triton.cdiv(kept, block))](x, out, columns, kept, BLOCK=block)
    return out
