"""Small Triton kernels of our own that join AITER's where its host code would use torch, or assumes valid data."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def expert_of(ids, table, tokens, i, n, k, limit, num_experts, HAS_TABLE: tl.constexpr, COUNTED: tl.constexpr):
    """The number of slot i's expert among those held here: num_experts where its id is out of range, masked out or past the
    tokens ([1]), and for i from n on."""
    expert = tl.load(ids + i, mask=i < n, other=-1)
    valid = (expert >= 0) & (expert < limit)
    if COUNTED:
        valid = valid & (i // k < tl.load(tokens))
    if HAS_TABLE:
        expert = tl.load(table + expert, mask=valid, other=0)
    return tl.where(valid, expert, num_experts).to(tl.int32)


@triton.jit
def _sum_slots_kernel(
    parts, ids, places, out, columns, num_experts, K: tl.constexpr, SOME: tl.constexpr, PLACED: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for k in tl.static_range(K):
        slot = row * K + k
        there = j < columns
        if SOME:
            there = there & (tl.load(ids + slot) < num_experts)
        if PLACED:
            slot = tl.load(places + slot).to(tl.int64)
        total += tl.load(parts + slot * columns + j, mask=there, other=0.0).to(tl.float32)
    tl.store(out + row * columns + j, total.to(out.dtype.element_ty), mask=j < columns)


def sum_slots(
    parts: torch.Tensor,
    out: torch.Tensor,
    ids: torch.Tensor | None = None,
    num_experts: int = 0,
    *,
    places: torch.Tensor | None = None,
    slots: int | None = None,
) -> torch.Tensor:
    """[T, k, N] summed over k into [T, N], in float32; with `ids` [T, k] slots of no expert (num_experts) are not read. With
    `places` [T * k] parts are rows [R, N] in an order of their own, slot i at row places[i]; `slots` is k then."""
    tokens, columns = out.shape
    k = parts.shape[1] if slots is None else slots
    block = min(1024, triton.next_power_of_2(columns))
    some, placed = ids is not None, places is not None
    given = parts, ids if some else parts, places if placed else parts, out, columns, num_experts
    _sum_slots_kernel[(tokens, triton.cdiv(columns, block))](*given, K=k, SOME=some, PLACED=placed, BLOCK=block)
    return out


@triton.jit
def _silu_mul_kernel(x, ids, y, columns, num_experts, SOME: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = j < columns
    if SOME:
        there = there & (tl.load(ids + row) < num_experts)
    gate = tl.load(x + row * 2 * columns + j, mask=there, other=0.0).to(tl.float32)
    up = tl.load(x + (row * 2 + 1) * columns + j, mask=there, other=0.0).to(tl.float32)
    silu = (gate / (1 + tl.exp(-gate))).to(x.dtype.element_ty).to(tl.float32)  # rounded there as AITER's later kernel does
    tl.store(y + row * columns + j, (silu * up).to(y.dtype.element_ty), mask=there)


def silu_mul(x: torch.Tensor, ids: torch.Tensor | None = None, num_experts: int = 0) -> torch.Tensor:
    """[M, 2I] into [M, I]: silu of the first half of a row, rounded to x's type, times the second. With `ids`, M of them, rows of
    no expert (num_experts) are neither read nor written."""
    rows, columns = x.shape[0], x.shape[1] // 2
    y = torch.empty((rows, columns), dtype=x.dtype, device=x.device)
    block = min(1024, triton.next_power_of_2(columns))
    some = ids is not None
    given = x, ids if some else x, y, columns, num_experts
    _silu_mul_kernel[(rows, triton.cdiv(columns, block))](*given, SOME=some, BLOCK=block)
    return y


@triton.jit
def _iota_kernel(out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, i, mask=i < n)


def iota(n: int) -> torch.Tensor:
    """0, 1, ..., n - 1 as int32."""
    out = torch.empty((n,), dtype=torch.int32, device="meta")
    _iota_kernel[(triton.cdiv(n, 256),)](out, n, BLOCK=256)
    return out


@triton.jit
def _clear_empty_kernel(out, lengths, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    if tl.load(lengths + row) <= 0:
        for start in range(0, columns, BLOCK):
            j = start + tl.arange(0, BLOCK)
            tl.store(out + row * columns + j, tl.zeros((BLOCK,), out.dtype.element_ty), mask=j < columns)


def clear_empty(out: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Zeroes the rows of sequences of length 0, for which AITER's decode kernels divide 0 by 0."""
    rows = out.shape[0]
    _clear_empty_kernel[(rows,)](out, lengths, out.numel() // rows, BLOCK=1024)
    return out


@triton.jit
def _clear_tail_kernel(out, bounds, sequences, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    if row >= tl.load(bounds + sequences):
        for start in range(0, columns, BLOCK):
            j = start + tl.arange(0, BLOCK)
            tl.store(out + row * columns + j, tl.zeros((BLOCK,), out.dtype.element_ty), mask=j < columns)


def clear_tail(out: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """Zeroes the rows past the last sequence of a packed batch (`bounds`: cumulative lengths)."""
    rows = out.shape[0]
    _clear_tail_kernel[(rows,)](out, bounds, bounds.shape[0] - 1, out.numel() // rows, BLOCK=1024)
    return out


@triton.jit
def _seen_keys_kernel(src, dst, bounds_q, bounds_k, left, sequences, columns, SEQUENCES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    b = tl.arange(0, SEQUENCES)
    ends = tl.load(bounds_k + 1 + b, mask=b < sequences, other=2147483647)
    sequence = tl.sum((ends <= row).to(tl.int32))
    owned = sequence < sequences
    end = tl.load(bounds_k + sequence + 1, mask=owned, other=0)
    queries = tl.load(bounds_q + sequence + 1, mask=owned, other=0) - tl.load(bounds_q + sequence, mask=owned, other=0)
    seen = owned & (row >= end - queries - left)
    for start in range(0, columns, BLOCK):
        j = start + tl.arange(0, BLOCK)
        at = row.to(tl.int64) * columns + j
        tl.store(dst + at, tl.load(src + at, mask=seen & (j < columns), other=0.0), mask=j < columns)


def seen_keys(x: torch.Tensor, bounds_q: torch.Tensor, bounds_k: torch.Tensor, left: int) -> torch.Tensor:
    """Packed keys or values with zeros where they lie before the window of their sequence's first query, or in no sequence."""
    out, sequences = torch.empty_like(x), bounds_k.shape[0] - 1
    columns, padded = x.numel() // x.shape[0], triton.next_power_of_2(sequences)
    grid = (x.shape[0],)
    _seen_keys_kernel[grid](x, out, bounds_q, bounds_k, left, sequences, columns, SEQUENCES=padded, BLOCK=1024)
    return out


@triton.jit
def _taken_rows_kernel(src, ids, dst, num_experts, columns, K: tl.constexpr, SLOTS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, SLOTS)
    experts = tl.load(ids + row * K + slot, mask=slot < K, other=num_experts)
    taken = tl.min(experts) < num_experts
    for start in range(0, columns, BLOCK):
        j = start + tl.arange(0, BLOCK)
        value = tl.load(src + row * columns + j, mask=(j < columns) & taken, other=0.0)
        tl.store(dst + row * columns + j, value, mask=j < columns)


def taken_rows(x: torch.Tensor, experts: torch.Tensor, num_experts: int) -> torch.Tensor:
    """Rows [T, D] with zeros for tokens of no expert held here (num_experts throughout): they must not reach a scale for all."""
    out, (rows, k) = torch.empty_like(x), experts.shape
    slots = triton.next_power_of_2(k)
    _taken_rows_kernel[(rows,)](x, experts, out, num_experts, x.numel() // rows, K=k, SLOTS=slots, BLOCK=1024)
    return out


@triton.jit
def _sequence_lengths_kernel(indptr, last_page_lens, out, n, PAGE: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pages = tl.load(indptr + i + 1, mask=i < n, other=0) - tl.load(indptr + i, mask=i < n, other=0)
    last = tl.load(last_page_lens + i, mask=i < n, other=0)
    tl.store(out + i, tl.where(pages > 0, (pages - 1) * PAGE + last, 0), mask=i < n)


def sequence_lengths(kv_indptr: torch.Tensor, kv_last_page_lens: torch.Tensor, page_size: int) -> torch.Tensor:
    """Tokens per sequence from the page lists' bounds and the fill of each last page."""
    n = kv_last_page_lens.shape[0]
    out = torch.empty((n,), dtype=torch.int32, device=kv_indptr.device)
    _sequence_lengths_kernel[(triton.cdiv(n, 256),)](kv_indptr, kv_last_page_lens, out, n, PAGE=page_size, BLOCK=256)
    return out


@triton.jit
def _clip_kernel(src, dst, n, limit, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(src + i, mask=i < n, other=0)
    tl.store(dst + i, tl.minimum(tl.maximum(value, 0), limit), mask=i < n)


def clip(src: torch.Tensor, limit: int) -> torch.Tensor:
    """Integers bounded to [0, limit], for indices AITER's kernels use unchecked."""
    dst = torch.empty_like(src)
    n = src.numel()
    _clip_kernel[(triton.cdiv(n, 1024),)](src, dst, n, limit, BLOCK=1024)
    return dst


@triton.jit
def _expert_table_kernel(mask, table, n, num_experts, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    held = (tl.load(mask + i, mask=i < n, other=0) != 0).to(tl.int32)
    local = tl.cumsum(held, axis=0) - 1
    tl.store(table + i, tl.where((held != 0) & (local < num_experts), local, num_experts), mask=i < n)


def expert_table(mask: torch.Tensor, num_experts: int) -> torch.Tensor:
    """Global to local expert number: the j-th expert with a mask is j; num_experts for those that are not held."""
    table = torch.empty(mask.shape, dtype=torch.int32, device=mask.device)
    n = mask.numel()
    _expert_table_kernel[(1,)](mask, table, n, num_experts, BLOCK=triton.next_power_of_2(n))
    return table


@triton.jit
def _transpose_kernel(src, dst, rows, columns, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    base = tl.program_id(2).to(tl.int64) * rows * columns
    mask = (i[:, None] < rows) & (j[None, :] < columns)
    tile = tl.load(src + base + i[:, None] * columns + j[None, :], mask=mask)
    tl.store(dst + base + j[None, :] * rows + i[:, None], tile, mask=mask)


def transpose(src: torch.Tensor, dst: torch.Tensor) -> torch.Tensor:
    """[R, C] into [C, R], or [B, R, C] into [B, C, R]."""
    rows, columns = src.shape[-2:]
    grid = triton.cdiv(rows, 32), triton.cdiv(columns, 32), src.numel() // (rows * columns)
    _transpose_kernel[grid](src, dst, rows, columns, BLOCK=32)
    return dst


@triton.jit
def _keyless_first_kernel(lse, rows, queries, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    tl.store(lse + row * queries + i, tl.full((BLOCK,), float("-inf"), tl.float32), mask=i < rows)


def keyless_first(lse: torch.Tensor, rows: int) -> None:
    """-inf for the first queries of [B, Hq, Sq], which see no key."""
    queries = lse.shape[-1]
    _keyless_first_kernel[(lse.numel() // queries, triton.cdiv(rows, 256))](lse, rows, queries, BLOCK=256)


@triton.jit
def _keyless_packed_kernel(lse, bounds_q, bounds_k, sequences, tokens, heads, SEQUENCES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    b = tl.arange(0, SEQUENCES)
    ends = tl.load(bounds_q + 1 + b, mask=b < sequences, other=2147483647)
    sequence = tl.sum((ends <= row).to(tl.int32))
    owned = sequence < sequences
    keys = tl.load(bounds_k + sequence + 1, mask=owned, other=0) - tl.load(bounds_k + sequence, mask=owned, other=0)
    seen = keys > 0
    for start in range(0, heads, BLOCK):
        h = start + tl.arange(0, BLOCK)
        hidden = (h < heads) & (seen == 0)
        tl.store(lse + h.to(tl.int64) * tokens + row, tl.full((BLOCK,), float("-inf"), tl.float32), mask=hidden)


def keyless_packed(lse: torch.Tensor, bounds_q: torch.Tensor, bounds_k: torch.Tensor) -> None:
    """-inf in [Hq, Tq] for the packed queries whose sequence has no key, or that are in no sequence."""
    (heads, tokens), sequences = lse.shape, bounds_q.shape[0] - 1
    padded, block = triton.next_power_of_2(sequences), min(64, triton.next_power_of_2(heads))
    grid = (tokens,)
    _keyless_packed_kernel[grid](lse, bounds_q, bounds_k, sequences, tokens, heads, SEQUENCES=padded, BLOCK=block)


@triton.jit
def _join_segments_kernel(
    parts, tops, sums, lengths, out, lse, heads, TILE: tl.constexpr, SEGMENTS: tl.constexpr, BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    length = tl.load(lengths + row)
    span = tl.cdiv(length, SEGMENTS * TILE) * TILE  # keys per segment, as the attention kernel splits them
    segment = tl.arange(0, BLOCK)
    used = (segment < SEGMENTS) & (segment * span < length)
    base = (row * heads + head) * SEGMENTS + segment
    top = tl.load(tops + base, mask=used, other=float("-inf"))
    highest = tl.max(top, axis=0)
    share = tl.where(used, tl.math.exp2(top - highest), 0.0)
    total = tl.sum(tl.load(sums + base, mask=used, other=0.0) * share, axis=0)
    column = tl.arange(0, WIDTH)
    values = tl.load(parts + base[:, None] * WIDTH + column[None, :], mask=used[:, None], other=0.0)
    joined = tl.sum(values * share[:, None], axis=0) / total
    at = out + (row * heads + head) * WIDTH + column
    tl.store(at, tl.where(length > 0, joined, 0.0).to(out.dtype.element_ty))
    # 2^highest * total: the segments keep their maxima in base 2
    tl.store(lse + row * heads + head, tl.where(length > 0, highest * 0.6931471805599453 + tl.log(total), float("-inf")))


def join_segments(parts, tops, sums, lengths, out, lse, tile: int, lanes: int) -> None:
    """Output and log-sum-exp from AITER's split-key partial results [rows, heads, segments(, width)]; lanes: threads of a warp."""
    rows, heads, segments, width = parts.shape
    block = triton.next_power_of_2(segments)
    # By some 64 values a thread: of few segments a program is short, so more warps of it cost more to start than they bring (on an
    # H200 4.1 µs with two warps of what takes 13.9 with eight, of two segments), and of many too few warps hold too much.
    warps = min(max(block * width // (64 * lanes), 2), 8)
    _join_segments_kernel[(rows, heads)](
        parts, tops, sums, lengths, out, lse, heads, TILE=tile, SEGMENTS=segments, BLOCK=block, WIDTH=width,
        num_warps=triton.next_power_of_2(warps),
    )  # fmt: skip


@triton.jit
def _empty_lse_kernel(lse, lengths, heads, BLOCK: tl.constexpr):
    row, head = tl.program_id(0), tl.arange(0, BLOCK)
    empty = tl.load(lengths + row) <= 0
    tl.store(lse + row * heads + head, float("-inf"), mask=(head < heads) & empty)


def empty_lse(lse: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """-inf for sequences of length 0."""
    rows, heads = lse.shape
    _empty_lse_kernel[(rows,)](lse, lengths, heads, BLOCK=triton.next_power_of_2(heads))
    return lse
