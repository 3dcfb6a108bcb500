"""Kernels of releases whose host code names them and no table does: the rows that a later release's table has for the same names.

Up to 0.1.9 ``asm_topksoftmax.cu``, ``asm_mla.cu`` and ``hsa/<arch>/fmha_v3_fwd/codegen.py`` hold what ``topksoftmax.csv``,
``mla_asm.csv`` and ``fmha_fwd.csv`` say since. A row is what its object's name says, and counts only where the object is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from jax_aiter.kernels.asm.dialects import Fields, Value

ROUNDING = {"rtne": 0, "rtna": 1, "rtz": 2}
# Tile of queries and of keys, by architecture and head size.
TILES = {("gfx942", 128): (256, 32), ("gfx942", 192): (128, 32), ("gfx950", 128): (256, 64), ("gfx950", 192): (128, 128)}
_MLA_COLUMNS = ("qType", "kvType", "Gqa", "ps", "qSeqLen", "prefill", "causal")
_MLA = {
    "mla_dec_stage1_bf16_a16w16_subQ128_mqa128": ("bf16", "bf16", 128, 0, 0, 0, 1),
    "mla_dec_stage1_bf16_a16w16_subQ16_mqa16": ("bf16", "bf16", 16, 0, 1, 0, 1),
    "mla_a16w16_qh16_m16x4_n16x1_coex0_mask1": ("bf16", "bf16", 16, 0, 4, 0, 1),
    "mla_a16w16_qh16_m32x4_n16x1_coex0_mask1": ("bf16", "bf16", 16, 0, 8, 0, 1),
    "mla_a16w16_qh16_m16x4_n16x1_coex0_mask1_ps": ("bf16", "bf16", 16, 1, 4, 0, 1),
    "mla_a16w8_qh16_m16x4_n16x1_coex0_mask1_ps": ("bf16", "fp8", 16, 1, 4, 0, 1),
    **{
        f"mla_a8w8_qh16_qseqlen{n}_gqaratio16{suffix}": ("fp8", "fp8", 16, ps, n, 0, 1)
        for n in (1, 2, 4)
        for ps, suffix in enumerate(("", "_ps"))
    },
    "mla_a8w8_qh128_m32x4_n16x2_msk0": ("fp8", "fp8", 128, 0, 0, 0, 0),
    "mla_a8w8_qh128_m32x4_n16x2_msk1": ("fp8", "fp8", 128, 0, 0, 0, 1),
    # Unmasked, like its name says, and taken for any number of queries.
    "mla_a8w8_qh128_m32x4_n16x2_msk0_ps": ("fp8", "fp8", 128, 1, 0, 0, 1),
    "mla_pfl_bf16_a16w16_causal_subQ16_mqa16": ("bf16", "bf16", 16, 0, 0, 1, 0),
    "mla_pfl_bf16_a16w16_causal_subQ128_mqa128": ("bf16", "bf16", 128, 0, 0, 1, 0),
}


def _topk(arch: str, stem: str) -> tuple[str, Fields] | None:
    match = re.fullmatch(r"topksoftmax_(\d+)x(\d+)x(\d+)", stem)
    if match is None:
        return None
    subm, experts, topk = map(int, match.groups())
    return stem, {"subm": subm, "num_experts": experts, "topk": topk, "dtype": "fp32"}


def _mla(arch: str, stem: str) -> tuple[str, Fields] | None:
    if stem not in _MLA:
        return None
    fields: dict[str, Value] = dict(zip(_MLA_COLUMNS, _MLA[stem], strict=True))
    return stem, {**fields, "lse": 0, "cprr": 0}


def _flash(arch: str, stem: str) -> tuple[str, Fields] | None:
    match = re.fullmatch(r"fwd_hd(128|192)(?:(?:x|_hd)(128))?_bf16(_causal)?(?:_(rtne|rtna|rtz))?(_group)?", stem)
    if match is None or (arch == "gfx942") != (match[4] is not None):  # gfx950's kernels have no choice of rounding
        return None
    head, value_head = int(match[1]), int(match[2] or match[1])
    ts_qo, ts_kv = TILES[arch, head]
    mask, mode = 2 if match[3] else 0, int(match[5] is not None)
    fields: Fields = {"dtype": "bf16", "hdim_q": head, "hdim_v": value_head, "mask": mask, "mode": mode}
    return f"fmha_{stem}", {**fields, "bf16_cvt": ROUNDING.get(match[4], 0), "ts_qo": ts_qo, "ts_kv": ts_kv}


TABLES = {"topksoftmax/topksoftmax.csv": _topk, "mla/mla_asm.csv": _mla, "fmha_v3_fwd/fmha_fwd.csv": _flash}


def read(arch: str, table: str, files: Iterable[str]) -> Iterator[tuple[str, str, Fields]]:
    """Symbol, file and fields of the kernels that the table would list. files: names of the code objects in its folder."""
    for file in sorted(set(files)):
        found = TABLES[table](arch, file.removesuffix(".co")) if table in TABLES else None
        if found is not None:
            name, fields = found
            yield f"_ZN5aiter{len(name)}{name}E", file, fields
