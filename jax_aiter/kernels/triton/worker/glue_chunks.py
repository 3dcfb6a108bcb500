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
