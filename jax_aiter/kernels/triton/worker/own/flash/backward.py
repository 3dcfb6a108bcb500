"""Our own backward pass of causal attention: one pass over the scores, five products a tile.

A program has BLOCK_N keys of a head of keys, whose gradients stay in its registers, and goes over the queries that see them, of all
heads that share it. What its keys add to the queries' gradient it adds in memory, in float32 and in whatever order programs come:
dq's last bits differ from run to run. Causal from the end: query m of S sees key n of T where m + T - S >= n.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
#: queries that a program of `_rows_kernel` has.
ROWS = 64


@triton.jit
def _rows_kernel(out, dout, lse, delta, lse2, S, M, H: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr):
    """Per query: delta = sum(out * dout) and lse2 = lse * log2(e), [B, H, M]; zeros from S to M."""
    blocks = tl.cdiv(M, ROWS)
    m = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    bh = tl.program_id(0) // blocks
    inside = m < S
    at = ((bh // H * S + m) * H + bh % H)[:, None] * D + tl.arange(0, D)[None, :]
    x = tl.load(out + at, mask=inside[:, None], other=0.0).to(tl.float32)
    y = tl.load(dout + at, mask=inside[:, None], other=0.0).to(tl.float32)
    tl.store(delta + bh * M + m, tl.sum(x * y, 1), mask=m < M)
    tl.store(lse2 + bh * M + m, tl.load(lse + bh * S + m, mask=inside, other=0.0) * LOG2_E, mask=m < M)


@triton.jit
def _threads_order(x, BM: tl.constexpr, D: tl.constexpr):
    """[BM, D] as [BM * D] in an order in which Hopper's threads have four neighbours of a result each: sums of 16 bytes."""
    return x.reshape(BM // 16, 2, 8, 2, D // 16, 4, 2).permute(4, 3, 0, 2, 5, 1, 6).reshape(BM * D)


@triton.jit
def _usual_order(x, BM: tl.constexpr, D: tl.constexpr):
    """What `_threads_order` made one row, [BM, D] again."""
    return x.reshape(D // 16, 2, BM // 16, 8, 4, 2, 2).permute(2, 5, 3, 1, 0, 4, 6).reshape(BM, D)


@triton.jit
def _rows(x, at, inside, EVEN: tl.constexpr):
    """Rows that are all there, or zeros for those that are not."""
    return tl.load(x + at) if EVEN else tl.load(x + at, mask=inside[:, None], other=0.0)


@triton.jit
def _gradients_kernel(
    q, k, v, dout, lse2, delta, dq, dk, dv, scale, S, T, M, H: tl.constexpr, HK: tl.constexpr, D: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr, EVEN: tl.constexpr, PERMUTED: tl.constexpr, BRANCH: tl.constexpr,
):  # fmt: skip
    """dk, dv [B, T, HK, D], and in float32 dq / scale, added to [B, H, M, D], PERMUTED each BM rows of it in `_threads_order`.

    BRANCH: scores are masked only where some of these queries do not see all of these keys; without it always, in straight code.
    """
    G: tl.constexpr = H // HK
    row: tl.constexpr = H * D
    heads = tl.num_programs(0) // tl.cdiv(T, BN)
    start_n = tl.program_id(0) // heads * BN  # of all heads the first keys first, which the most queries see
    b = tl.program_id(0) % heads // HK
    hk = tl.program_id(0) % HK
    d = tl.arange(0, D)
    om = tl.arange(0, BM)
    n = start_n + tl.arange(0, BN)
    at = ((b * T + n) * HK + hk)[:, None] * D + d[None, :]
    keys = _rows(k, at, n < T, EVEN)
    values = _rows(v, at, n < T, EVEN)
    gk = tl.zeros((BN, D), tl.float32)
    gv = tl.zeros((BN, D), tl.float32)
    q += (b * S * H + hk * G) * D
    dout += (b * S * H + hk * G) * D
    lse2 += (b * H + hk * G) * M
    delta += (b * H + hk * G) * M
    dq += (b * H + hk * G) * M * D
    start = start_n - (T - S)  # the first query that sees any of these keys; negative where all do
    first = tl.maximum(start, 0) // BM * BM
    steps = tl.maximum(M - first, 0) // BM
    for i in range(steps * G):
        # Of rows past S the scores are zeros and lse2 too, so that their weight is one: dout, delta and so what they add are zeros.
        if G == 1:
            m0 = first + i * BM
            r = m0
            to = m0 * row
        else:
            m0 = first + i % steps * BM
            r = i // steps * M + m0
            to = m0 * row + i // steps * D
        inside = m0 + om < S
        x = _rows(q, to + om[:, None] * row + d[None, :], inside, EVEN)
        top = tl.load(lse2 + r + om)
        s = tl.dot(keys, tl.trans(x))
        y = _rows(dout, to + om[:, None] * row + d[None, :], inside, EVEN)
        dp = tl.dot(values, tl.trans(y))
        p = tl.math.exp2(s * (scale * LOG2_E) - top[None, :])
        # With keys past T, whose weights would be exp(-lse), always: m0 < S <= start + BN - 1.
        if not BRANCH or m0 < start + BN - 1:
            p = tl.where((m0 + om)[None, :] >= (start + tl.arange(0, BN))[:, None], p, 0.0)
        e = tl.load(delta + r + om)
        gv = tl.dot(p.to(y.dtype), y, gv)
        ds = (p * (dp - e[None, :])).to(x.dtype)
        gk = tl.dot(ds, x, gk)
        g = tl.dot(tl.trans(ds), keys)
        if PERMUTED:
            tl.atomic_add(dq + r * D + tl.arange(0, BM * D), _threads_order(g, BM, D), sem="relaxed")
        else:
            tl.atomic_add(dq + r * D + om[:, None] * D + d[None, :], g, sem="relaxed")
    mask = None if EVEN else (n < T)[:, None]
    tl.store(dv + at, gv.to(dv.dtype.element_ty), mask=mask)
    tl.store(dk + at, (gk * scale).to(dk.dtype.element_ty), mask=mask)


@triton.jit
def _round_kernel(x, y, scale, S, M, H: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, PERMUTED: tl.constexpr):
    """The sums of `_gradients_kernel` times scale as y [B, S, H, D]."""
    blocks = M // BM
    m = tl.program_id(0) % blocks * BM + tl.arange(0, BM)
    bh = tl.program_id(0) // blocks
    if PERMUTED:
        sums = tl.load(x + tl.program_id(0) * (BM * D) + tl.arange(0, BM * D))
        g = _usual_order((sums * scale).to(y.dtype.element_ty), BM, D)
    else:
        g = (tl.load(x + (bh * M + m)[:, None] * D + tl.arange(0, D)[None, :]) * scale).to(y.dtype.element_ty)
    at = ((bh // H * S + m) * H + bh % H)[:, None] * D + tl.arange(0, D)[None, :]
    tl.store(y + at, g, mask=(m < S)[:, None])


def backward(q, k, v, out, dout, lse, gradients, scale: float, permuted: bool, config: dict[str, int]) -> None:
    """q, out, dout [B, S, H, D], k, v [B, T, HK, D], lse [B, H, S] float32 into gradients, shaped as q, k and v.

    permuted: sums in Hopper's order. config: BLOCK_M queries by BLOCK_N keys and the launch options of the pass over the scores.
    """
    (batch, queries, heads, size), (_, keys, kv_heads, _) = q.shape, k.shape
    rows, columns = config["BLOCK_M"], config["BLOCK_N"]
    padded, (dq, dk, dv) = triton.cdiv(queries, rows) * rows, gradients
    delta, lse2 = (lse.new_empty((batch, heads, padded)) for _ in range(2))
    sums = torch.zeros((batch, heads, padded, size), dtype=torch.float32, device=q.device)
    _rows_kernel[(triton.cdiv(padded, ROWS) * heads * batch,)](
        out, dout, lse, delta, lse2, queries, padded, H=heads, D=size, ROWS=ROWS, num_warps=4
    )
    _gradients_kernel[(triton.cdiv(keys, columns) * kv_heads * batch,)](
        q,
        k,
        v,
        dout,
        lse2,
        delta,
        sums,
        dk,
        dv,
        scale,
        queries,
        keys,
        padded,
        H=heads,
        HK=kv_heads,
        D=size,
        BM=rows,
        BN=columns,
        EVEN=queries % rows == 0 and keys % columns == 0,
        PERMUTED=permuted,
        BRANCH=size == 128,
        **{name: value for name, value in config.items() if name not in ("BLOCK_M", "BLOCK_N")},
    )
    _round_kernel[(padded // rows * heads * batch,)](
        sums, dq, scale, queries, padded, H=heads, D=size, BM=rows, PERMUTED=permuted, num_warps=4
    )
