"""Rows as MXFP4, by the specification: halves to even, and a block with an infinity or a NaN has the scale 255, which is NaN.

AITER's kernel looks for neither, turns an exponent below zero into uint8, which NVIDIA clamps where AMD wraps, and knows one of the
ways in which a largest magnitude becomes a scale.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

#: columns that share a power of two
BLOCK = 32
#: What is added to a largest magnitude's bits, so that cutting them off rounds it; the others divide it by 6 first.
ROUNDED = {"even": 0x200000, "floor": 0, "ceil": 0x7FFFFF, "rceil": 0x7FFFFF}


@triton.jit
def _code(value):
    """Of e2m1; halfway between two values the even code wins, and of what rounds to zero the sign is kept."""
    size = tl.abs(value)
    code = (size > 0.25).to(tl.int32) + (size >= 0.75).to(tl.int32) + (size > 1.25).to(tl.int32) + (size >= 1.75).to(tl.int32)
    code += (size > 2.5).to(tl.int32) + (size >= 3.5).to(tl.int32) + (size > 5.0).to(tl.int32)
    return tl.where(value.to(tl.int32, bitcast=True) < 0, code | 8, code)


@triton.jit
def _mxfp4_kernel(
    x, packed, scale, stride, columns, ADDED: tl.constexpr, OVER_SIX: tl.constexpr, GROUPS: tl.constexpr, HALF: tl.constexpr
):
    row, group = tl.program_id(0).to(tl.int64), tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    pair = group[:, None] * HALF + tl.arange(0, HALF)[None, :]
    inside = 2 * pair < columns
    first = tl.load(x + row * stride + 2 * pair, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(x + row * stride + 2 * pair + 1, mask=inside, other=0.0).to(tl.float32)
    odd = ((first - first != 0) | (second - second != 0)).to(tl.int32)  # an infinity or a NaN
    whole = tl.max(odd, axis=1) == 0
    amax = tl.max(tl.maximum(tl.abs(first), tl.abs(second)), axis=1)
    bits = ((tl.div_rn(amax, 6.0) if OVER_SIX else amax).to(tl.int32, bitcast=True) + ADDED) >> 23
    code = tl.where(whole, tl.maximum(bits - (0 if OVER_SIX else 2), 0), 255)
    over = ((254 - tl.minimum(code, 254)) << 23).to(tl.float32, bitcast=True)[:, None]
    byte = tl.where(whole[:, None], _code(first * over) | (_code(second * over) << 4), 0)
    tl.store(packed + row * (columns // 2) + pair, byte.to(tl.uint8), mask=inside)
    tl.store(scale + row * (columns // (2 * HALF)) + group, code.to(tl.uint8), mask=2 * HALF * group < columns)


def mxfp4(x: torch.Tensor, mode: str = "even", *, columns: int | None = None, spare: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `columns` of each row of ``[R, C]``, packed, and scales ``[R + spare, columns / 32]``, the last of nothing."""
    rows, stride = x.shape[0], x.stride(0)
    columns = x.shape[1] if columns is None else columns
    packed = torch.empty((rows, columns // 2), dtype=torch.uint8, device="meta")
    scale = torch.empty((rows + spare, columns // BLOCK), dtype=torch.uint8, device="meta")
    groups = min(64, triton.next_power_of_2(columns // BLOCK))
    how = {"ADDED": ROUNDED[mode], "OVER_SIX": mode == "rceil", "GROUPS": groups, "HALF": BLOCK // 2}
    _mxfp4_kernel[(rows, triton.cdiv(columns // BLOCK, groups))](x, packed, scale, stride, columns, **how)
    return packed, scale
