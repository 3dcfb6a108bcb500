"""Chunked attention as plain attention of more sequences: each of them one chunk of one of the caller's."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _local_sequences_kernel(
    bounds, lengths, tables, local_bounds, local_lengths, local_tables, sequences, columns, chunk, block,
    PARTS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    sequence, part = row // PARTS, row % PARTS
    start, end, length = tl.load(bounds + sequence), tl.load(bounds + sequence + 1), tl.load(lengths + sequence)
    first = length - (end - start)  # position of the first query; negative where there are more queries than tokens
    begin = (tl.maximum(first, 0) // chunk + part) * chunk
    # The first part takes what queries stand before the first token, too.
    local = tl.where(part == 0, start, start + tl.minimum(begin, length) - first)
    tl.store(local_bounds + row, tl.minimum(tl.maximum(local, start), end))
    tl.store(local_lengths + row, tl.maximum(tl.minimum(begin + chunk, length) - begin, 0))
    if row == sequences * PARTS - 1:
        tl.store(local_bounds + row + 1, end)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = begin // block + j
    held = (j < COLUMNS) & (column < columns) & (column * block < length)
    entry = tl.load(tables + sequence.to(tl.int64) * columns + column, mask=held, other=0)
    tl.store(local_tables + row.to(tl.int64) * COLUMNS + j, entry, mask=j < COLUMNS)


def local_sequences(bounds: torch.Tensor, lengths: torch.Tensor, tables: torch.Tensor, block: int, chunk: int, longest: int):
    """(bounds, lengths, tables) of packed queries over a block table, by chunk: a query's sequence begins where its chunk does.

    longest: at least the most queries of a sequence; chunks are whole blocks. A sequence has as many parts as its queries can lie
    in, of which the last may have no query.
    """
    sequences, columns = tables.shape
    parts = min(1 if longest == 1 else (longest - 1) // chunk + 2, triton.cdiv(columns * block, chunk))
    width, rows = min(columns, chunk // block), sequences * parts
    new = [torch.empty(shape, dtype=torch.int32, device=tables.device) for shape in ((rows + 1,), (rows,), (rows, width))]
    grid = (rows, triton.cdiv(width, 256))
    _local_sequences_kernel[grid](
        bounds, lengths, tables, *new, sequences, columns, chunk, block, PARTS=parts, COLUMNS=width, BLOCK=256
    )
    return new


@triton.jit
def _dense_bounds_kernel(
    bounds_q, bounds_k, n, queries, keys, chunk, FIRST: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    sequence, part = i // PARTS, i % PARTS
    # Where the first chunk with a query is not the sequence's first, a part in front has the keys that no query sees.
    begin = tl.where(part == 0, 0, FIRST + part - (1 if FIRST > 0 else 0)) * chunk
    tl.store(bounds_k + i, sequence * keys + begin, mask=i < n)
    tl.store(bounds_q + i, sequence * queries + tl.maximum(begin - keys + queries, 0), mask=i < n)


def dense_bounds(batch: int, queries: int, keys: int, chunk: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the chunks of `batch` sequences begin among all queries, at the last positions of their sequences, and among all keys.

    No part is without queries and without keys: AITER's forward kernel writes zeros over the log-sum-exps of what follows it.
    """
    first = (keys - queries) // chunk
    parts = triton.cdiv(keys, chunk) - first + (first > 0)
    n = batch * parts + 1
    new = [torch.empty((n,), dtype=torch.int32, device=device) for _ in range(2)]
    _dense_bounds_kernel[(triton.cdiv(n, 256),)](*new, n, queries, keys, chunk, FIRST=first, PARTS=parts, BLOCK=256)
    return new[0], new[1]


@triton.jit
def _packed_bounds_kernel(bounds_q, bounds_k, local_q, local_k, sequences, chunk, PARTS: tl.constexpr, WIDTH: tl.constexpr):
    sequence, part = tl.program_id(0), tl.arange(0, WIDTH)
    start, end = tl.load(bounds_q + sequence), tl.load(bounds_q + sequence + 1)
    start_k, end_k = tl.load(bounds_k + sequence), tl.load(bounds_k + sequence + 1)
    length = end_k - start_k
    first = length - (end - start)  # position of the first query; negative where there are more queries than keys
    begin = (tl.maximum(first, 0) // chunk + part - 1) * chunk
    # A part in front has the keys before the first query's chunk, and no query.
    key = tl.where(part == 0, 0, tl.minimum(begin, length))
    query = tl.where(part <= 1, 0, tl.minimum(tl.maximum(key - first, 0), end - start))
    tl.store(local_q + sequence * PARTS + part, start + query, mask=part < PARTS)
    tl.store(local_k + sequence * PARTS + part, start_k + key, mask=part < PARTS)
    if sequence == sequences - 1:
        tl.store(local_q + sequences * PARTS, end)
        tl.store(local_k + sequences * PARTS, end_k)


def packed_bounds(bounds_q: torch.Tensor, bounds_k: torch.Tensor, queries: int, keys: int, chunk: int) -> list[torch.Tensor]:
    """The bounds of packed sequences by chunk, in the queries and in the keys; queries, keys: at least the most of a sequence.

    Parts without queries, and without keys, lie in front and behind: as many as the longest sequence could need.
    """
    sequences = bounds_q.shape[0] - 1
    parts = 1 + min((queries - 1) // chunk + 2, triton.cdiv(keys, chunk))
    new = [torch.empty((sequences * parts + 1,), dtype=torch.int32, device=bounds_q.device) for _ in range(2)]
    _packed_bounds_kernel[(sequences,)](
        bounds_q, bounds_k, *new, sequences, chunk, PARTS=parts, WIDTH=triton.next_power_of_2(parts)
    )
    return new


@triton.jit
def _single_queries_kernel(given, bounds, lengths, n, capacity, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(given + i, mask=i < n, other=0)
    tl.store(lengths + i, tl.minimum(tl.maximum(value, 0), capacity), mask=i < n)
    tl.store(bounds + i, i, mask=i <= n)


def single_queries(lengths: torch.Tensor, capacity: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the queries of sequences that have one each begin, and the sequences' lengths within [0, capacity]: one launch."""
    n = lengths.shape[0]
    bounds, bounded = lengths.new_empty((n + 1,)), torch.empty_like(lengths)
    _single_queries_kernel[(triton.cdiv(n + 1, 256),)](lengths, bounds, bounded, n, capacity, BLOCK=256)
    return bounds, bounded
