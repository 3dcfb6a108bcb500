"""paged_attention on the kernels of pa_fwd_asm, where that has its contract."""

from __future__ import annotations

import math

from jax_aiter.kernels.asm.attention import pa
from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.registry import Selected, need, op
from jax_aiter.kernels.provider import Call


@op("paged_attention", source="aiter/ops/attention.py paged_attention_common", tables=(pa.TABLE,))
def select(call: Call) -> Selected:
    query, cache, params = call.operands["query"], call.operands["key_cache"], call.params
    need(params["kv_layout"] == "asm", f"kv_layout = {params['kv_layout']!r}; AITER's kernels read the layout 'asm'")
    sizes = query.shape[2], call.results[0].shape[2]
    need(sizes == (pa.HEAD_DIM,) * 2, f"head sizes {sizes}; AITER's kernels have {pa.HEAD_DIM}")
    same = math.isclose(params["scale"], pa.HEAD_DIM**-0.5, rel_tol=1e-6)
    need(same, f"scale = {params['scale']}; AITER's kernels have 1 / sqrt({pa.HEAD_DIM})")
    for name in ("alibi_slopes", "sinks"):
        need(name not in call.operands, f"{name} is given; AITER's kernels have none")
    need(params["logits_soft_cap"] == 0, f"logits_soft_cap = {params['logits_soft_cap']}; AITER's kernels have none")
    need(params["sliding_window"] == 0, f"sliding_window = {params['sliding_window']}; AITER's kernels have none")
    chunk = params.get("attention_chunk_size", 0)
    block = cache.shape[3]
    rule = f"here a chunk's table is part of the sequence's: a multiple of the block, {block}"
    need(chunk % block == 0, f"attention_chunk_size = {chunk}; {rule}")
    need(not params["ragged"], "cu_seqlens is given; the longest query must be static: see pa_fwd_asm(max_qlen=)")
    if cache.dtype.itemsize == 1:
        per_token = "k_scale" in call.operands and params["per_token_scales"]
        rule = "AITER's kernels take one scale per token and head"
        need(per_token, f"key_cache has dtype {cache.dtype.name} without scales [nb, Hk, bs]; {rule}")
    return pa.select(call, 1, 1, _passes_over(call))


def _passes_over(call: Call) -> str | None:
    (sequences, heads), units = call.operands["query"].shape[:2], compute_units(call.target)
    if call.operands["key_cache"].dtype.name == "int8" or sequences * heads > 2 * units:
        return None
    return f"AITER takes its hand-written kernel where B * Hq = {sequences * heads} exceeds 2 * {units} compute units"
