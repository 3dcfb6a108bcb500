"""What our own cache writers are made of: a head normalised and rotated, a row coded as a cache stores it.

The roundings are those of the references: a norm, then a rotation, each rounded to the tokens' dtype; then times the reciprocal of
a scale, saturated.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

#: by torch dtype of a cache: how it is coded, and the largest number that it holds.
FLOAT, FP8, FNUZ, INT8 = (tl.constexpr(n) for n in range(4))
CODES = {torch.float8_e4m3fn: (1, 448.0), torch.float8_e4m3fnuz: (2, 240.0), torch.int8: (3, 127.0)}


def code(dtype: torch.dtype) -> dict[str, float]:
    """Constants of a kernel that writes this dtype."""
    kind, top = CODES.get(dtype, (0, 0.0))
    return {"KIND": kind, "TOP": top}


def warps(block: int) -> int:
    """Of a program that holds one row in registers."""
    return min(max(block // 512, 1), 8)


@triton.jit
def normed(x, weight, at, rms, mask, NORM: tl.constexpr):
    """Elements `at` of the row that x points to, normalised, in float32 after the rounding to its dtype."""
    value = tl.load(x + at, mask=mask, other=0.0)
    if NORM:
        by = tl.load(weight + at, mask=mask, other=0.0).to(tl.float32)
        value = (value.to(tl.float32) * rms * by).to(x.dtype.element_ty)
    return value.to(tl.float32)


@triton.jit
def turned(
    x, weight, cos, sin, epsilon, NORM: tl.constexpr, TURN: tl.constexpr, NEOX: tl.constexpr, REUSE: tl.constexpr,
    START: tl.constexpr, ROTARY: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The row of SIZE elements that x points to, normalised, with ROTARY of them from START turned by one row of the tables."""
    i = tl.arange(0, BLOCK)
    inside = i < SIZE
    rms = 1.0
    if NORM:
        wide = tl.load(x + i, mask=inside, other=0.0).to(tl.float32)
        rms = tl.rsqrt(tl.sum(wide * wide, axis=0) / SIZE + epsilon)
    own = normed(x, weight, i, rms, inside, NORM)
    if TURN:
        HALF: tl.constexpr = ROTARY // 2
        j = i - START
        rotates = (j >= 0) & (j < ROTARY)
        if NEOX:
            first = j < HALF
            other = tl.where(first, j + HALF, j - HALF)
            column = tl.where(first, j, j - HALF) if REUSE else j
        else:
            first = j % 2 == 0
            other = tl.where(first, j + 1, j - 1)
            column = j // 2 if REUSE else j
        partner = normed(x, weight, START + other, rms, rotates, NORM)
        c = tl.load(cos + column, mask=rotates, other=1.0).to(tl.float32)
        s = tl.load(sin + column, mask=rotates, other=0.0).to(tl.float32)
        own = tl.where(rotates, own * c + tl.where(first, -partner, partner) * s, own)
    return own.to(x.dtype.element_ty)


@triton.jit
def reciprocal(scale, SCALED: tl.constexpr):
    """Of what a scale points to, if there is one."""
    inverse = 1.0
    if SCALED:
        inverse = tl.div_rn(1.0, tl.load(scale))
    return inverse


@triton.jit
def coded(value, inverse, KIND: tl.constexpr, TOP: tl.constexpr):
    """value times `inverse`, saturated, as a number that the cache's dtype holds or rounds to nearest; floats are copied."""
    if KIND != FLOAT:
        wide = value.to(tl.float32) * inverse
        value = tl.where(wide > TOP, TOP, tl.where(wide < -TOP, -TOP, wide))  # NaN stays
        if KIND == FNUZ:  # half of the smallest number, and a negative zero, are zero: the code of -0 is this type's NaN
            value = tl.where(tl.abs(value) <= 0.00048828125, 0.0, value)
        if KIND == INT8:
            value = tl.where(value == value, value, 0.0)
            value = value + 12582912.0 - 12582912.0  # 1.5 * 2^23: to nearest, ties to even
    return value


@triton.jit
def own_scale(value, TOP: tl.constexpr):
    """A row's largest magnitude (as in AITER's kernels at least 1e-10) over the largest number; NaN of a row that has one."""
    wide = value.to(tl.float32)
    amax = tl.maximum(tl.max(tl.abs(wide), axis=0), 1e-10)
    odd = tl.max((wide != wide).to(tl.int32), axis=0)
    return tl.where(odd > 0, float("nan"), amax) * (1.0 / TOP)
