"""A product of few rows: each program reads its rows of the weight once, and multiplies element by element.

A matrix instruction takes 16 rows whether they are there or not, and a tile of these for which the weight is read through shared
memory; of few rows the weight's bytes are all there is to do.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _few_rows_kernel(
    a, b, bias, y, rows, columns, depth, BIASED: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    m, n = tl.arange(0, ROWS), tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    there, inside = m < rows, n < columns
    mine = b + n.to(tl.int64)[:, None] * depth
    total = tl.zeros((ROWS, BLOCK_N, BLOCK_K), tl.float32)
    for start in range(0, depth, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        weight = tl.load(mine + k[None, :], mask=inside[:, None] & (k < depth)[None, :], other=0.0).to(tl.float32)
        row = tl.load(a + m[:, None] * depth + k[None, :], mask=there[:, None] & (k < depth)[None, :], other=0.0).to(tl.float32)
        total += weight[None, :, :] * row[:, None, :]
    result = tl.sum(total, axis=2)
    if BIASED:
        result += tl.load(bias + n, mask=inside, other=0.0).to(tl.float32)[None, :]
    at = m.to(tl.int64)[:, None] * columns + n[None, :]
    tl.store(y + at, result.to(y.dtype.element_ty), mask=there[:, None] & inside[None, :])


def product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor, config: dict[str, int]) -> None:
    """a [M, K] by b [N, K] into y [M, N], with a bias [N]. config: BLOCK_N columns of y by BLOCK_K of the sum, num_warps."""
    (rows, depth), columns = a.shape, b.shape[0]
    _few_rows_kernel[(triton.cdiv(columns, config["BLOCK_N"]),)](
        a,
        b,
        a if bias is None else bias,
        y,
        rows,
        columns,
        depth,
        BIASED=bias is not None,
        ROWS=triton.next_power_of_2(rows),
        **config,
    )
