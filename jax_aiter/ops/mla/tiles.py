"""How a persistent decoding kernel sees the queries: tiles of some tokens of one sequence and some of its heads.

Which tiles those are follows from a call's shapes and dtypes and from the architecture alone, so the work list can be made before
a kernel is chosen, and on a machine that has none.
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A call as AITER's selection sees it. q, kv: "bf16" or "fp8"; another dtype stands under its own name."""

    arch: str
    q: str
    kv: str
    heads: int
    queries: int  # max_seqlen_qo
    causal: bool
    lse: bool


NAMES = {"bfloat16": "bf16", "float8_e4m3fnuz": "fp8", "float8_e4m3fn": "fp8"}


@dataclasses.dataclass(frozen=True)
class Key:
    """What AITER looks a row up by; sub_q: query rows of a workgroup, 0 for a persistent kernel."""

    gqa: int
    queries: int
    sub_q: int = 0


class NoKernel(Exception):
    """AITER has no persistent kernel for a call, or this one is not for it; the text says why."""


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Every sequence has ``folds`` groups of ``heads`` heads times ``count`` tiles of ``tokens`` queries.

    A sequence's queries are the last of its ``count * tokens`` places; the places before them hold queries nobody asks for.
    """

    sequences: Any  # may be symbolic
    folds: int
    count: int
    tokens: int
    heads: int
    mqa: int  # the kernel argument of that name: query rows of a tile, or for newer kernels heads

    @property
    def number(self) -> Any:
        return self.sequences * self.folds * self.count

    @property
    def rows(self) -> int:
        """Rows of the kernel's query array."""
        return self.number * self.tokens

    @property
    def places(self) -> int:
        """Query places of a sequence."""
        return self.count * self.tokens


def key_of(w: Wanted) -> Key:
    """For the persistent kernels; asm_mla.cu:861-1009 after the folding of aiter/mla.py:762-843, but for what is excluded."""
    heads, rows = w.heads, w.heads * w.queries
    bf16, fp8 = w.q == w.kv == "bf16", w.q == w.kv == "fp8"
    if w.arch == "gfx950" and bf16 and heads % 16 == 0:
        wide = (rows >= 128 or heads > 64) and heads != 48
        return Key(32, 4) if wide else Key(64, 1)
    if w.arch == "gfx950" and fp8:
        if heads == 8:
            return Key(8, 4)
        # AITER takes its kernel for 64 rows where that is enough; see the asm adapter's `traits` for why ours does not.
        if heads in (64, 128) or (heads in (16, 32) and w.queries > 1):
            return Key(32, 4)
        if heads == 32:
            return Key(32, 1)
    if w.arch == "gfx942":
        if fp8 and heads == 128:
            return Key(128, 0)
        if fp8 and heads == 64 and w.queries == 1:
            return Key(64, 1)
        if bf16 and heads == 8 and w.queries == 2:
            return Key(8, 2)
    if heads % 16:
        raise NoKernel(f"{heads} heads, q {w.q}, kv_buffer {w.kv}, max_seqlen_qo {w.queries}: AITER has no kernel for these")
    if w.queries > 4:
        raise NoKernel(f"max_seqlen_qo = {w.queries}; the persistent kernels of 16 heads take at most 4")
    return Key(16, 1 if w.q == "fp8" and w.queries == 1 else 4)


def tiles_of(key: Key, w: Wanted, sequences: Any, kernel: str = "the kernel") -> Tiles:
    """For the persistent kernel of a key, which takes any tile as a sequence of its own; kernel: what a refusal calls it."""
    gqa, queries, heads = key.gqa, key.queries, w.heads
    unfit = NoKernel(f"{kernel} is for {gqa} heads and {queries} queries; q has {heads} heads, max_seqlen_qo is {w.queries}")
    packed = ("bf16", 32, 4), ("bf16", 64, 1), ("fp8", 32, 4)
    if w.arch == "gfx950" and w.q == w.kv and (w.q, gqa, queries) in packed:
        limit = 128 if gqa == 32 else 64  # rows of a tile: heads times tokens
        if heads > limit:
            raise unfit
        tokens = min(w.queries, limit // heads)
        return Tiles(sequences, 1, -(-w.queries // tokens), tokens, heads, heads)
    if gqa == 16:
        return _folded(key, w, sequences, unfit)
    if heads != gqa or (gqa == 8 and w.queries > queries):
        raise unfit
    if gqa == 8:
        return Tiles(sequences, 1, 1, queries, heads, heads * queries)
    return Tiles(sequences, 1, w.queries, 1, heads, heads)


def _folded(key: Key, w: Wanted, sequences: Any, unfit: NoKernel) -> Tiles:
    """Groups of 16 heads as sequences of their own, as AITER does for head counts it has no kernel for."""
    if w.heads % 16 or (key.queries != 1 and w.queries > 4):
        raise unfit
    if key.queries == 1:
        return Tiles(sequences, w.heads // 16, w.queries, 1, 16, 16)
    tokens = max(w.queries, 3) if w.q == "fp8" else w.queries
    return Tiles(sequences, w.heads // 16, 1, tokens, 16, 16 * tokens)


def listed_tiles(w: Wanted, sequences: Any) -> Tiles:
    """The tiles that a work list for this call has: those of its persistent kernel, else one tile per sequence."""
    try:
        return tiles_of(key_of(w), w, sequences)
    except NoKernel:
        return Tiles(sequences, 1, 1, w.queries, w.heads, w.heads)
