"""Our own attention of dense or packed queries: equal heads of a power of two, causal or not, no more.

A program has a block of queries of one head. Blocks of keys that every query sees are multiplied without a mask, in a pipeline;
those that the diagonal or the end crosses come after. Of each sequence the last block comes first, as behind a causal mask it has
the most keys, and heads go fastest, so that those that share keys run side by side. Log-sum-exps go where the op has them.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

LOG2_E = 1.4426950408889634
#: keys of a masked step: the diagonal of a block of queries crosses few.
MASKED = 64
#: programs that clear what is in no sequence, at most.
CLEARING = 128


@triton.jit
def _clear(out, lse, first, end, step, HEADS: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr, tokens, KEYLESS: tl.constexpr):
    """Zeros, and log-sum-exps without a key, for all heads of blocks of rows `first`, `first + step` ... before `end`."""
    for start in range(first, end, step):
        row = start + tl.arange(0, BLOCK)
        mine = row < end
        for head in range(HEADS):
            at = out + (row[:, None] * HEADS + head) * SIZE + tl.arange(0, SIZE)[None, :]
            tl.store(at, tl.zeros((BLOCK, SIZE), out.dtype.element_ty), mask=mine[:, None])
            tl.store(lse + head * tokens + row, tl.full((BLOCK,), KEYLESS, tl.float32), mask=mine)


@triton.jit
def _softmax(score, top, total, acc, scale):
    """Exponentials of a tile of scores; the sums, rescaled to a maximum that may be higher."""
    higher = tl.maximum(top, tl.max(score, axis=1) * scale)
    p = tl.math.exp2(score * scale - higher[:, None])
    old = tl.math.exp2(top - higher)
    return p, higher, total * old + tl.sum(p, axis=1), acc * old[:, None]


@triton.jit
def _attend_kernel(
    q, k, v, out, lse, bounds_q, bounds_k, scale, queries, keys, blocks, sequences,
    HEADS: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr, CAUSAL: tl.constexpr, KEYLESS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, MASKED_N: tl.constexpr, STAGES: tl.constexpr, CLEAR: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    head, block = program % HEADS, program // HEADS
    sequence = block // blocks
    start = (blocks - 1 - block % blocks) * BLOCK_M
    row_q: tl.constexpr = HEADS * SIZE
    row_k: tl.constexpr = HEADS // GROUP * SIZE
    if bounds_q is not None:
        if sequence >= sequences:
            first = tl.load(bounds_q + sequences) + (program - sequences * blocks * HEADS) * BLOCK_M
            _clear(out, lse, first, queries, CLEAR * BLOCK_M, HEADS, SIZE, BLOCK_M, queries, KEYLESS)
            return
        first_q = tl.load(bounds_q + sequence)
        n_q = tl.load(bounds_q + sequence + 1) - first_q
        if start >= n_q:
            return
        first_k = tl.load(bounds_k + sequence)
        n_k = tl.load(bounds_k + sequence + 1) - first_k
        if head == 0:  # beyond the longest sequence that the caller promised
            over = first_q + start + blocks * BLOCK_M
            _clear(out, lse, over, first_q + n_q, blocks * BLOCK_M, HEADS, SIZE, BLOCK_M, queries, KEYLESS)
        lse += head * queries + first_q
    else:
        n_q, n_k = queries, keys
        first_q, first_k = sequence * queries, sequence * keys
        lse += (sequence * HEADS + head) * queries
    row = start + tl.arange(0, BLOCK_M)
    column = tl.arange(0, SIZE)
    mine = (row < n_q)[:, None]
    at = first_q * row_q + head * SIZE + row[:, None] * row_q + column[None, :]
    query = tl.load(q + at, mask=mine, other=0.0)
    k += first_k * row_k + head // GROUP * SIZE
    v += first_k * row_k + head // GROUP * SIZE
    last = n_k - 1 + tl.zeros((BLOCK_M,), tl.int32)  # of a query's keys
    end, full = n_k, n_k
    if CAUSAL:
        behind = n_k - n_q
        last = tl.minimum(row + behind, last)
        end = tl.minimum(start + BLOCK_M + behind, n_k)
        full = tl.maximum(tl.minimum(start + behind + 1, n_k), 0)
    full = full // BLOCK_N * BLOCK_N
    acc = tl.zeros((BLOCK_M, SIZE), tl.float32)
    top = tl.full((BLOCK_M,), -1e30, tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    for n in tl.range(0, full, BLOCK_N, num_stages=STAGES):
        key = n + tl.arange(0, BLOCK_N)
        keys_t = tl.load(k + column[:, None] + key[None, :] * row_k)
        values = tl.load(v + key[:, None] * row_k + column[None, :])
        p, top, total, acc = _softmax(tl.dot(query, keys_t), top, total, acc, scale)
        acc = tl.dot(p.to(values.dtype), values, acc)
    for n in tl.range(full, end, MASKED_N, num_stages=1):
        key = n + tl.arange(0, MASKED_N)
        keys_t = tl.load(k + column[:, None] + key[None, :] * row_k, mask=(key < end)[None, :], other=0.0)
        values = tl.load(v + key[:, None] * row_k + column[None, :], mask=(key < end)[:, None], other=0.0)
        score = tl.where(key[None, :] <= last[:, None], tl.dot(query, keys_t), float("-inf"))
        p, top, total, acc = _softmax(score, top, total, acc, scale)
        acc = tl.dot(p.to(values.dtype), values, acc)
    seen = total != 0.0  # a NaN is none
    found = (top + tl.math.log2(total)) * 0.6931471805599453
    tl.store(lse + row, tl.where(seen, found, KEYLESS), mask=row < n_q)
    acc = acc * tl.where(seen, 1.0 / total, 0.0)[:, None]
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=mine)


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bounds: tuple[torch.Tensor, torch.Tensor] | None,
    longest: int,
    scale: float,
    causal: bool,
    out: torch.Tensor,
    lse: torch.Tensor,
    infinite: bool,
    config: dict[str, int],
) -> None:
    """q, out [B, Sq, Hq, D], k and v [B, Sk, Hk, D], lse [B, Hq, Sq]; packed by `bounds` without B, `longest` queries at most.

    Queries without a key, or in no sequence, have zeros, and 0 as log-sum-exp, or -inf if `infinite`. config: BLOCK_M queries by
    BLOCK_N keys, launch options.
    """
    options = dict(config)
    block_m, block_n = options.pop("BLOCK_M"), options.pop("BLOCK_N")
    queries, keys = q.shape[-3], k.shape[-3]
    blocks, sequences = triton.cdiv(longest, block_m), q.shape[0] if bounds is None else bounds[0].shape[0] - 1
    clear = 0 if bounds is None else min(triton.cdiv(queries, block_m), CLEARING)
    _attend_kernel[(blocks * sequences * q.shape[-2] + clear,)](
        q, k, v, out, lse, *(bounds or (None, None)), scale * LOG2_E, queries, keys, blocks, sequences,
        HEADS=q.shape[-2], GROUP=q.shape[-2] // k.shape[-2], SIZE=q.shape[-1], CAUSAL=causal,
        KEYLESS=float("-inf") if infinite else 0.0, BLOCK_M=block_m, BLOCK_N=block_n, MASKED_N=min(block_n, MASKED),
        STAGES=options["num_stages"], CLEAR=clear, **options,
    )  # fmt: skip
