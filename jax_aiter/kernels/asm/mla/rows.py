"""Which row of the MLA table AITER takes for decoding, and which query rows a kernel of the table takes at once.

What the kernels can and cannot do beyond their table was found by running every one of them; `TRAITS` states it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from jax_aiter.kernels.asm.registry import Refusal, need
from jax_aiter.kernels.asm.tables import Kernel, kernels
from jax_aiter.ops.mla.tiles import Key, NoKernel, Wanted, key_of

TABLE = "mla/mla_asm.csv"
MAX_QUERIES = 8  # the most per sequence that any kernel was seen to get right


@dataclasses.dataclass(frozen=True)
class Traits:
    """What a kernel's row does not say.

    unmasked: has no causal mask although the row says so: fit for one query per sequence.
    fewest: the least partitions of a sequence that work.
    single: what it writes for one partition: "final" bfloat16 without log-sum-exp, or "partial" float32 with it.
    silent: writes no log-sum-exp of a tile that it computes in one work, although the row says that it has them.
    excluded: why it is never used.
    """

    unmasked: bool = False
    fewest: int = 1
    single: str = "final"
    silent: bool = False
    excluded: str | None = None


_OVERLAP = (
    "the last 96 bytes that one wave loads into local memory overlap the first query row of another wave, so the result "
    "depends on which load arrives last"
)
_NO_OUTPUT = "with one partition it writes through a pointer that AITER leaves null"
_BYTE = "reads AITER's packed byte layout (fp8, scales and bfloat16 rotary parts in one row), which kv_buffer does not have"
TRAITS = {
    "mla_dec_stage1_bf16_a16w16_subQ128_mqa128": Traits(unmasked=True),
    "mla_dec_stage1_bf16_a16w16_subQ16_mqa16": Traits(single="partial"),
    "mla_a16w16_qh8_qseqlen1_gqaratio8_v3": Traits(single="partial"),
    "MLA_A16W16_1TG_4W_32mx1_16nx1_Coex0_Msk1_QH16": Traits(unmasked=True, fewest=2),  # _NO_OUTPUT
    "MLA_A16W16_1TG_4W_64mx1_16nx1_Coex0_Msk1_QH16": Traits(unmasked=True, fewest=2),  # _NO_OUTPUT
    # With one partition and four queries some rows come out wrong.
    "MLA_A16W16_1TG_4W_16mx4_32nx1_Coex0_Msk1_QH16": Traits(fewest=2),
    "mla_a16w16_qh8_qseqlen2_gqaratio8": Traits(unmasked=True),
    "mla_a8w8_qh16_qseqlen2_gqaratio16": Traits(excluded=_OVERLAP),
    "mla_a8w8_qh16_qseqlen2_gqaratio16_ps": Traits(excluded=_OVERLAP),
    "mla_a16w8_qh16_m16x4_n16x1_coex0_mask1_ps_page64_ds32": Traits(excluded=_BYTE),
}
# Seen on the virtual device: from three tiles of 64 keys in one work on, the output of the third and fourth group of 16 rows is
# wrong (the log-sum-exp is right). The waves of these kernels run in two phases and hand tiles over by timing, so hardware may
# well get it right; nobody here has seen it do so, and the kernel for 128 rows serves the same calls.
_PHASES = "its waves hand tiles of keys over by timing, and works of more than two tiles were seen to come out wrong"
# Besides, they have another argument block than AITER's host code fills: where it puts an address they read a number.
_OTHER_BLOCK = f"its argument block is not the one that AITER's host code fills; {_PHASES}"
_TURNS = "its waves hand tiles of keys over by timing, and every call was seen to come out wrong"
_GFX950 = {
    "mla_a8w8_qh64_qseqlen4_gqaratio16": Traits(excluded=_OTHER_BLOCK),
    "mla_a8w8_qh64_qseqlen4_gqaratio16_msk0": Traits(excluded=_OTHER_BLOCK),
    # Of releases up to 0.1.9: not one row comes out right, and which number comes out depends on the waves' turns.
    "mla_a8w8_qh16_qseqlen4_gqaratio16": Traits(excluded=_TURNS),
    "mla_a8w8_qh16_qseqlen4_gqaratio16_ps": Traits(excluded=_TURNS),
    "mla_a8w8_qh8_qseqlen1_gqaratio8_v3": Traits(excluded="a batch of lengths 1, 17, 65 and 700 was seen to come out wrong"),
    "mla_a8w8_qh32_qseqlen1_gqaratio32_lse_ps": Traits(silent=True),
    "mla_a8w8_qh16_qseqlen4_gqaratio16_v3_ps": Traits(excluded=_PHASES),
    "mla_a8w8_qh16_qseqlen4_gqaratio16_lse_v3_ps": Traits(excluded=_PHASES),
    "mla_a8w8_qh16_qseqlen4_gqaratio16_msk0_v3_ps": Traits(excluded=_PHASES),
    "mla_a8w8_qh16_qseqlen4_gqaratio16_msk0_lse_v3_ps": Traits(excluded=_PHASES),
}


def stem(row: Kernel) -> str:
    return Path(row.path).stem


def traits(row: Kernel) -> Traits:
    found = _GFX950.get(stem(row)) if row.arch == "gfx950" else None
    return found or TRAITS.get(stem(row), Traits())


def writes_lse(row: Kernel) -> bool:
    """Whether a persistent kernel writes the log-sum-exp of a tile that it computes in one work."""
    return row["lse"] == 1 and not traits(row).silent


def never(row: Kernel) -> str | None:
    """Why a row runs no call."""
    if row["prefill"] == 1 and row["ps"] == 1:
        return "prefills fp8 queries and keys of 192 that are not absorbed (AITER's mla_prefill_ps_asm_fwd), which no op here does"
    if row.fields.get("cprr"):
        return "is for caches dealt out to several devices token by token (AITER's cprr), which no op here knows"
    return traits(row).excluded


def usable_rows(arch: str, *, prefill: bool) -> tuple[Kernel, ...]:
    """The kernels for decoding or for prefill that can be used."""
    return tuple(r for r in kernels(arch, TABLE) if r["prefill"] == int(prefill) and never(r) is None)


def split_key(w: Wanted) -> Key:
    """For the kernels that split every sequence evenly; asm_mla.cu:861-985."""
    bf16 = w.q == w.kv == "bf16"
    if w.heads == 128:
        return Key(128, 0, 128)
    if w.heads == 16 and bf16:
        if w.queries == 1:
            return Key(16, 1, 16)
        return Key(16, 4 if w.queries <= 4 else 8, 128)
    if w.heads == 16 and w.q == "fp8":
        need(w.queries <= 4, f"max_seqlen_qo = {w.queries}; fp8 queries of 16 heads: at most 4")
        # AITER's kernel for two queries is not reliable: two take the one for three and four.
        return Key(16, 1, 128) if w.queries == 1 else Key(16, 4, 64)
    if w.heads == 32 and bf16:
        return Key(32, 0, 64)
    if w.heads == 64 and bf16:
        return Key(64, 1 if w.queries == 1 else 0, 64)
    if w.heads == 8 and w.queries <= (2 if bf16 else 1) and w.q == w.kv:
        return Key(8, w.queries, 8 * w.queries)
    raise Refusal(f"{w.heads} heads, q {w.q}, kv_buffer {w.kv}, max_seqlen_qo {w.queries}: AITER has no kernel that splits evenly")


def work_list_key(w: Wanted) -> Key:
    """For the persistent kernels."""
    try:
        return key_of(w)
    except NoKernel as unfit:
        raise Refusal(str(unfit)) from None


def lookup(rows: Iterable[Kernel], w: Wanted, key: Key, *, persistent: bool) -> Kernel | None:
    """The row that AITER's get_heuristic_kernel_mla finds, None where it would abort.

    Two rows of gfx950 share a key (8 heads, two queries): AITER takes the first of its hash map, here it is the one that masks.
    """
    causal = w.causal or w.queries == 1
    found = []
    for row in rows:
        same = (row["qType"], row["kvType"], row["Gqa"], row["qSeqLen"]) == (w.q, w.kv, key.gqa, key.queries)
        if same and row["ps"] == int(persistent) and row["causal"] == int(causal):
            found.append(row)
    found.sort(key=lambda r: (r["lse"] != int(w.lse and persistent), traits(r).unmasked))
    return found[0] if found else None
