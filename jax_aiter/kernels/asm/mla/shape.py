"""How a decoding kernel sees the queries: tiles of some tokens of one sequence and some of its heads."""

from __future__ import annotations

import dataclasses

from jax_aiter.kernels.asm.mla.rows import Wanted, stem
from jax_aiter.kernels.asm.registry import need
from jax_aiter.kernels.asm.tables import Kernel


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Every sequence has ``folds`` groups of ``heads`` heads times ``count`` tiles of ``tokens`` queries.

    A sequence's queries are the last of its ``count * tokens`` places; the places before them hold queries nobody asks for.
    """

    sequences: int
    folds: int
    count: int
    tokens: int
    heads: int
    mqa: int  # the kernel argument of that name: query rows of a tile, or for newer kernels heads

    @property
    def number(self) -> int:
        return self.sequences * self.folds * self.count

    @property
    def rows(self) -> int:
        """Rows of the kernel's query array."""
        return self.number * self.tokens

    @property
    def places(self) -> int:
        """Query places of a sequence."""
        return self.count * self.tokens


def split_tiles(row: Kernel, w: Wanted, sequences: int) -> Tiles:
    """For a kernel that splits evenly: one tile per sequence, all its heads and queries."""
    gqa, queries = row.number("Gqa"), row.number("qSeqLen")
    need(w.heads == gqa, f"{stem(row)} is for {gqa} heads, q has {w.heads}")
    tokens = w.queries
    if (row["qType"], gqa, queries) == ("fp8", 16, 4):
        tokens = max(tokens, 3)
    fits = tokens == queries if queries == 1 or gqa == 8 else queries == 0 or tokens <= queries
    need(fits, f"{stem(row)} is for {queries} queries per sequence, max_seqlen_qo is {w.queries}")
    return Tiles(sequences, 1, 1, tokens, w.heads, w.heads * (1 if w.heads == 8 else tokens))


def work_list_tiles(row: Kernel, w: Wanted, sequences: int) -> Tiles:
    """For a persistent kernel, which takes any tile as a sequence of its own."""
    gqa, queries, heads = row.number("Gqa"), row.number("qSeqLen"), w.heads
    fits = f"{stem(row)} is for {gqa} heads and {queries} queries; q has {heads} heads, max_seqlen_qo is {w.queries}"
    packed = ("bf16", 32, 4), ("bf16", 64, 1), ("fp8", 32, 4)
    if row.arch == "gfx950" and row["qType"] == row["kvType"] and (row["qType"], gqa, queries) in packed:
        limit = 128 if gqa == 32 else 64  # rows of a tile: heads times tokens
        need(heads <= limit, fits)
        tokens = min(w.queries, limit // heads)
        return Tiles(sequences, 1, -(-w.queries // tokens), tokens, heads, heads)
    if gqa == 16:
        return _folded(row, w, sequences, fits)
    need(heads == gqa, fits)
    if gqa == 8:
        need(w.queries <= queries, fits)
        return Tiles(sequences, 1, 1, queries, heads, heads * queries)
    return Tiles(sequences, 1, w.queries, 1, heads, heads)


def _folded(row: Kernel, w: Wanted, sequences: int, fits: str) -> Tiles:
    """Groups of 16 heads as sequences of their own, as AITER does for head counts it has no kernel for."""
    need(w.heads % 16 == 0, fits)
    if row["qSeqLen"] == 1:
        return Tiles(sequences, w.heads // 16, w.queries, 1, 16, 16)
    need(w.queries <= 4, fits)
    tokens = max(w.queries, 3) if row["qType"] == "fp8" else w.queries
    return Tiles(sequences, w.heads // 16, 1, tokens, 16, 16 * tokens)
