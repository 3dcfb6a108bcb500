"""Which tiles of the queries a row of the MLA table takes."""

from __future__ import annotations

from jax_aiter.kernels.asm.mla.rows import stem
from jax_aiter.kernels.asm.registry import Refusal, need
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.ops.mla.tiles import Key, NoKernel, Tiles, Wanted, tiles_of


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
    try:
        return tiles_of(Key(row.number("Gqa"), row.number("qSeqLen")), w, sequences, stem(row))
    except NoKernel as unfit:
        raise Refusal(str(unfit)) from None
