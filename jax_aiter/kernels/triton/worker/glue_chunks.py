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
