"""Our own decoding over a latent cache: matrix products over any page size, straight from the lists of pages.

AITER's kernel with matrix products takes a page as its tile, of 16 tokens or more; the one that takes smaller pages multiplies
element by element, for each head anew.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

from jax_aiter.kernels.triton.rules import INT32_MAX
from jax_aiter.kernels.triton.worker.own.glue import join_segments


@triton.jit
def _weigh(score, top, total):
    """Weights of a tile's scores (powers of two) against the new maxima, by what older sums shrink, the maxima, sums by column."""
    higher = tl.maximum(top, tl.max(score, axis=1))
    p = tl.math.exp2(score - higher[:, None])
    old = tl.math.exp2(top - higher)
    # Columns are summed once, at the end: a sum for each tile would be one more meeting of all warps.
    return p, old, higher, total * old[:, None] + p


@triton.jit
def _load(tokens, inside, columns, dtype: tl.constexpr):
    """Those columns of a tile's tokens, zeros for a token that is not there, whatever stands in its place."""
    return tl.load(tokens + columns[None, :], mask=inside[:, None], other=0.0).to(dtype)


@triton.jit
def _latent_kernel(
    q, cache, indptr, indices, last_page_lens, kv_scale, parts, tops, sums, lengths, sm_scale, heads,
    PAGE: tl.constexpr, RANK: tl.constexpr, ROPE: tl.constexpr, SCALED: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_N: tl.constexpr,
    SPLITS: tl.constexpr, WIDE: tl.constexpr, EARLY: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    # Blocks of heads go fastest: they read the same tokens, which lie in the cache of the chip then.
    block, split, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    first = tl.load(indptr + row)
    pages = tl.load(indptr + row + 1) - first
    length = tl.where(pages > 0, (pages - 1) * PAGE + tl.load(last_page_lens + row), 0)
    if (block == 0) & (split == 0):
        tl.store(lengths + row, length)
    WIDTH: tl.constexpr = RANK + ROPE
    ONE: tl.constexpr = PAGE % BLOCK_N == 0  # a tile lies in one page: parts begin at multiples of a tile
    span = tl.cdiv(length, SPLITS * BLOCK_N) * BLOCK_N
    begin = split * span
    if begin < length:
        end = tl.minimum(begin + span, length)
        i = tl.arange(0, BLOCK_N)
        if ONE:
            page = tl.load(indices + first + begin // PAGE)
        else:
            page = tl.load(indices + first + (begin + i) // PAGE, mask=begin + i < end, other=0)
        head = block * BLOCK_H + tl.arange(0, BLOCK_H)
        c, r = tl.arange(0, RANK), RANK + tl.arange(0, ROPE)
        mine = head < heads
        at = (row.to(tl.int64) * heads + head) * WIDTH
        latent = tl.load(q + at[:, None] + c[None, :], mask=mine[:, None], other=0.0)
        rotary = tl.load(q + at[:, None] + r[None, :], mask=mine[:, None], other=0.0)
        dtype: tl.constexpr = latent.dtype
        factor = sm_scale * 1.4426950408889634  # powers of two from here
        out_factor = 1.0
        if SCALED:
            out_factor = tl.load(kv_scale)
            factor = factor * out_factor
        top = tl.full((BLOCK_H,), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK_H, BLOCK_N), tl.float32)
        acc = tl.zeros((BLOCK_H, RANK), tl.float32)
        # Of whole tiles EARLY masks nothing; what is left of one is multiplied after them.
        whole = begin + (end - begin) // BLOCK_N * BLOCK_N if EARLY else end
        if whole > begin:
            # Said again of the loop: for one that may not be entered ptxas waits for each matrix instruction.
            tl.assume(whole > begin)
            # Its stages are named: by a launch's option alone only what feeds products outside branches is asked for in advance.
            for start in tl.range(begin, whole, BLOCK_N, num_stages=STAGES):
                number = page.to(tl.int64) if WIDE else page
                inside = start + i < end
                # Looked up one tile ahead: what a tile's address waits for cannot be asked for in advance.
                if ONE:
                    page = tl.load(indices + first + tl.minimum(start + BLOCK_N, end - 1) // PAGE)
                    tokens = (cache + (number * PAGE + start % PAGE) * WIDTH) + (i * WIDTH)[:, None]
                else:
                    ahead = start + BLOCK_N + i
                    page = tl.load(indices + first + ahead // PAGE, mask=ahead < end, other=0)
                    tokens = cache + ((number * PAGE + (start + i) % PAGE) * WIDTH)[:, None]
                if EARLY:
                    kv = tl.load(tokens + c[None, :]).to(dtype)
                    k_rotary = tl.load(tokens + r[None, :]).to(dtype)
                    # Triton gives every warpgroup all scores of what it takes for a chain of products. Two products that are
                    # added and the inner branch, never taken, end the chain, so that each multiplies its own half of the tokens.
                    # What only the end of an iteration needs of a branch is issued last: inside the outer one, always taken,
                    # nearly all stands behind the loads of the next tile, which have the time it takes to arrive.
                    score = tl.dot(rotary, tl.trans(k_rotary)) * factor
                    if start < end:
                        score += tl.dot(latent, tl.trans(kv)) * factor
                        apart = score
                        if start < begin:
                            apart = -score
                        p, old, top, total = _weigh(apart, top, total)
                        acc = tl.dot(p.to(dtype), kv, acc=acc * old[:, None])
                else:
                    kv, k_rotary = _load(tokens, inside, c, dtype), _load(tokens, inside, r, dtype)
                    score = tl.dot(latent, tl.trans(kv))
                    score = tl.dot(rotary, tl.trans(k_rotary), acc=score) * factor
                    p, old, top, total = _weigh(tl.where(inside[None, :], score, float("-inf")), top, total)
                    acc = tl.dot(p.to(dtype), kv, acc=acc * old[:, None])
        if EARLY and whole < end:
            number = page.to(tl.int64) if WIDE else page
            inside = whole + i < end
            tokens = cache + ((number * PAGE + (whole + i) % PAGE) * WIDTH)[:, None]
            kv, k_rotary = _load(tokens, inside, c, dtype), _load(tokens, inside, r, dtype)
            score = tl.dot(rotary, tl.trans(k_rotary)) * factor
            score += tl.dot(latent, tl.trans(kv)) * factor
            apart = score
            if whole < begin:  # never, as above
                apart = -score
            p, old, top, total = _weigh(tl.where(inside[None, :], apart, float("-inf")), top, total)
            acc = tl.dot(p.to(dtype), kv, acc=acc * old[:, None])
        segment = (row.to(tl.int64) * heads + head) * SPLITS + split
        tl.store(parts + segment[:, None] * RANK + c[None, :], acc * out_factor, mask=mine[:, None])
        tl.store(tops + segment, top, mask=mine)
        tl.store(sums + segment, tl.sum(total, axis=1), mask=mine)


def decode(
    q: torch.Tensor,
    cache: torch.Tensor,
    pages: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    kv_scale: torch.Tensor | None,
    sm_scale: float,
    out: torch.Tensor,
    lse: torch.Tensor,
    config: dict[str, int],
    lanes: int,
) -> None:
    """One query [B, Hq, rank + rotary] per sequence over a cache [pages, page, 1, rank + rotary], into out [B, Hq, rank] and lse.

    pages: kv_indptr, kv_indices, kv_last_page_lens. config: BLOCK_H heads by BLOCK_N tokens, SPLITS of a sequence, EARLY (the
    next tile is asked for before this one's scores), launch options. lanes: threads of a warp.
    """
    (rows, heads, rank), page = out.shape, cache.shape[1]
    options = dict(config)
    block_h, block_n, splits, early = (options.pop(name) for name in ("BLOCK_H", "BLOCK_N", "SPLITS", "EARLY"))
    parts = torch.empty((rows, heads, splits, rank), dtype=torch.float32, device=q.device)
    tops, sums = (torch.empty((rows, heads, splits), dtype=torch.float32, device=q.device) for _ in range(2))
    lengths = torch.empty((rows,), dtype=torch.int32, device=q.device)
    _latent_kernel[(triton.cdiv(heads, block_h), splits, rows)](
        q, cache, *pages, sums if kv_scale is None else kv_scale, parts, tops, sums, lengths, sm_scale, heads,
        PAGE=page, RANK=rank, ROPE=q.shape[-1] - rank, SCALED=kv_scale is not None, BLOCK_H=block_h, BLOCK_N=block_n,
        SPLITS=splits, WIDE=cache.numel() > INT32_MAX, EARLY=early, STAGES=options["num_stages"], **options,
    )  # fmt: skip
    join_segments(parts, tops, sums, lengths, out, lse, block_n, lanes)
