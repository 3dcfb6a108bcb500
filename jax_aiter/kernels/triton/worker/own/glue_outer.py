"""Products over the rows of each group, ``lhs[rows].T @ rhs[rows]``: what a weight's gradient is.

A group of a mixture has a few hundred rows, so that a tile's sum is a handful of steps, and filling the pipeline and writing the
tile take as long as the sum. Here a program goes over all steps of all its tiles in one loop: while a tile is written the next
one's rows are on their way. The last rows of a group are a step like any other, with what lies behind them masked.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl


@triton.jit
def _outer_kernel(
    lhs, rhs, starts, counts, out, groups, apart,
    K: tl.constexpr, N: tl.constexpr, GRID_DIM: tl.constexpr, BINS: tl.constexpr, GROUP_SIZE: tl.constexpr,
    BLOCK_SIZE_M: tl.constexpr, BLOCK_SIZE_K: tl.constexpr, BLOCK_SIZE_N: tl.constexpr,
):  # fmt: skip
    K_TILES: tl.constexpr = (K + BLOCK_SIZE_K - 1) // BLOCK_SIZE_K
    N_TILES: tl.constexpr = (N + BLOCK_SIZE_N - 1) // BLOCK_SIZE_N
    TILES: tl.constexpr = K_TILES * N_TILES
    EVEN: tl.constexpr = (K % BLOCK_SIZE_K == 0) and (N % BLOCK_SIZE_N == 0)
    program = tl.program_id(0)
    bins = tl.arange(0, BINS)
    sizes = tl.load(counts + bins, mask=bins < groups, other=0)
    # A group without rows takes a step too, which writes zeros.
    steps = tl.where(bins < groups, tl.maximum((sizes + BLOCK_SIZE_M - 1) // BLOCK_SIZE_M, 1), 0)
    before = (bins + 1) * TILES - 1 - program + GRID_DIM
    total = tl.sum((before // GRID_DIM - (before - TILES) // GRID_DIM) * steps)

    m, k, n = tl.arange(0, BLOCK_SIZE_M), tl.arange(0, BLOCK_SIZE_K), tl.arange(0, BLOCK_SIZE_N)
    at_lhs, at_rhs = m[None, :] * K + k[:, None], m[:, None] * N + n[None, :]
    acc = tl.zeros((BLOCK_SIZE_K, BLOCK_SIZE_N), dtype=tl.float32)
    tile = program
    group = tl.minimum(tile // TILES, groups - 1)
    row = tl.load(starts + group * apart)
    end = row + tl.load(counts + group)
    for _ in range(total):
        group = tile // TILES
        of_group = tile % TILES
        first = of_group // (GROUP_SIZE * N_TILES) * GROUP_SIZE
        height = tl.minimum(K_TILES - first, GROUP_SIZE)
        within = of_group % (GROUP_SIZE * N_TILES)
        tile_k, tile_n = first + within % height, within // height
        left = (m < end - row)[None, :]
        right = (m < end - row)[:, None]
        if not EVEN:
            left = left & (tile_k * BLOCK_SIZE_K + k < K)[:, None]
            right = right & (tile_n * BLOCK_SIZE_N + n < N)[None, :]
        at = row.to(tl.int64)
        a = tl.load(lhs + at * K + tile_k * BLOCK_SIZE_K + at_lhs, mask=left, other=0.0)
        b = tl.load(rhs + at * N + tile_n * BLOCK_SIZE_N + at_rhs, mask=right, other=0.0)
        acc = tl.dot(a, b, acc)
        last = row + BLOCK_SIZE_M >= end
        if last:
            i, j = tile_k * BLOCK_SIZE_K + k, tile_n * BLOCK_SIZE_N + n
            where = out + group.to(tl.int64) * (K * N) + i[:, None] * N + j[None, :]
            tl.store(where, acc.to(out.dtype.element_ty), mask=(i < K)[:, None] & (j < N)[None, :])
            acc = tl.zeros((BLOCK_SIZE_K, BLOCK_SIZE_N), dtype=tl.float32)
        tile = tl.where(last, tile + GRID_DIM, tile)
        group = tl.minimum(tile // TILES, groups - 1)
        begin = tl.load(starts + group * apart)
        size = tl.load(counts + group)
        row = tl.where(last, begin, row + BLOCK_SIZE_M)
        end = tl.where(last, begin + size, end)


def outer(
    lhs: torch.Tensor,
    rhs: torch.Tensor,
    starts: torch.Tensor,
    counts: torch.Tensor,
    out: torch.Tensor,
    config: Mapping[str, int],
) -> torch.Tensor:
    """``out[g] = lhs[s:s + c].T @ rhs[s:s + c]``, summed in float32; s of `starts` (of any stride) and c of `counts`, int32 [G]
    and not negative. lhs [R, K], rhs [R, N], out [G, K, N]. config: BLOCK_SIZE_M is the rows of a step, K and N the tile; GRID_DIM
    programs share the tiles, GROUP_SIZE tiles of K that meet the same of N come one after the other."""
    groups, k, n = out.shape
    tiles = groups * triton.cdiv(k, config["BLOCK_SIZE_K"]) * triton.cdiv(n, config["BLOCK_SIZE_N"])
    sizes = {"K": k, "N": n, "BINS": triton.next_power_of_2(groups)}
    _outer_kernel[(min(config["GRID_DIM"], tiles),)](lhs, rhs, starts, counts, out, groups, starts.stride(0), **sizes, **config)
    return out
