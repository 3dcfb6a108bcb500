"""Rotation of queries and keys, writes to paged caches, and both in one."""

from __future__ import annotations

from jax_aiter.vllm_ops import values
from jax_aiter.vllm_ops.row import Argument, Row, renamed, returned, same, to, unneeded

CACHES = {
    "key_cache": to("key_cache", note="returned updated; in place if it is donated"),
    "value_cache": to("value_cache", note="as key_cache"),
}
TABLES = {"cos_sin_cache": to(("cos", "sin"), values.halves)}
STYLE = {"is_neox": to("rotate_style", values.rotate_style)}
OWN_DTYPE = unneeded("kv_cache_dtype", note="the cache's own dtype says it")
QKV = {
    "qkv": to(("q", "k", "v"), values.heads_of_qkv),
    **same("q_weight", "k_weight"),
    **TABLES,
    **same("positions"),
    **unneeded("num_heads_q", "num_heads_k", "head_dim", note="how qkv is split"),
    **STYLE,
    **renamed(rms_norm_eps="epsilon"),
    **returned("q_out", "k_out"),
    **same("slot_mapping", "k_scale", "v_scale"),
    "use_shuffle_layout": to("kv_layout", values.shuffled_or_nhd),
}


def written(key: str, value: str) -> dict[str, Argument]:
    return {key: CACHES["key_cache"], value: CACHES["value_cache"]}


ROWS = (
    Row(
        name="rocm_aiter_triton_rotary_embedding",
        aiter="aiter.ops.triton rope_cached_thd_positions_offsets_2c_fwd_inplace",
        ops=("rope_2c", "rope", "rope_positions"),
        arguments={
            **same("positions"),
            "query": to("q", values.heads),
            "key": to("k", values.heads),
            **unneeded("head_size", note="how query and key are split"),
            **TABLES,
            "is_neox": STYLE["is_neox"],
            "offsets": Argument(neutral=(None,), note="add them to positions"),
        },
        results=("query", "key"),
    ),
    Row(
        name="fused_qk_norm_rope_and_cache",
        aiter="aiter.fused_qk_norm_rope_cache_pts_quant_shuffle",
        ops=("fused_qk_norm_rope_cache",),
        arguments={
            **QKV,
            **unneeded("num_heads_v", note="how qkv is split"),
            **written("k_cache", "v_cache"),
            **returned("v_out", note="the values as they are"),
            **unneeded("return_kv", note="keys are returned always; unused ones cost nothing"),
            **unneeded("block_size", "x", "rotary_dim", note="the shapes say it"),
        },
        results=("q_out", "k_out", "k_cache", "v_cache"),
    ),
    Row(
        name="do_qk_norm_rope_kvcache_update",
        aiter="aiter.fused_qk_norm_rope_cache_pts_quant_shuffle",
        ops=("fused_qk_norm_rope_cache",),
        arguments={**QKV, **CACHES, **OWN_DTYPE},
        results=("q_out", "k_out", "key_cache", "value_cache"),
    ),
    Row(
        name="triton_rope_and_cache",
        aiter="aiter.ops.triton fused_qk_rope_reshape_and_cache",
        ops=("rope_and_cache",),
        arguments={
            **renamed(query="q", key="k", value="v"),
            **same("positions"),
            **TABLES,
            **STYLE,
            **CACHES,
            **renamed(layer_slot_mapping="slot_mapping"),
            **same("k_scale", "v_scale"),
            "flash_layout": to("kv_layout", values.flash_or_vllm),
            **unneeded("apply_scale", note="a cache of fp8 or int8 is scaled, and no other"),
        },
        results=("query", "key", "key_cache", "value_cache"),
    ),
    Row(
        name="reshape_and_cache",
        where="v1/attention/backends/rocm_aiter_fa.py; reshape_and_cache_shuffle_triton is vLLM's own",
        aliases=("reshape_and_cache_shuffle_triton",),
        aiter="aiter.reshape_and_cache",
        ops=("reshape_and_cache",),
        arguments={
            **same("key", "value"),
            **CACHES,
            **same("slot_mapping"),
            **OWN_DTYPE,
            **same("k_scale", "v_scale"),
            "asm_layout": to("kv_layout", values.asm_layout, default=False),
        },
        results=("key_cache", "value_cache"),
    ),
    Row(
        name="reshape_and_cache_flash",
        where="v1/attention/backends/rocm_aiter_fa.py",
        aiter="aiter.reshape_and_cache_flash",
        ops=("reshape_and_cache",),
        arguments={**same("key", "value"), **CACHES, **same("slot_mapping"), **OWN_DTYPE, **same("k_scale", "v_scale")},
        given={"kv_layout": "NHD"},
        results=("key_cache", "value_cache"),
    ),
    Row(
        name="reshape_and_cache_with_pertoken_quant",
        where="the writer that pa_fwd_asm's scales need; vLLM passes ones",
        aiter="aiter.reshape_and_cache_with_pertoken_quant",
        ops=("reshape_and_cache_with_pertoken_quant",),
        arguments={
            **same("key", "value"),
            **CACHES,
            "k_dequant_scales": to("k_dequant_scales", note="returned updated"),
            "v_dequant_scales": to("v_dequant_scales", note="returned updated"),
            **same("slot_mapping"),
            "asm_layout": to("kv_layout", values.asm_layout),
        },
        results=("key_cache", "value_cache", "k_dequant_scales", "v_dequant_scales"),
    ),
    Row(
        name="fused_qknorm_idxrqknorm",
        aiter="aiter.fused_qknorm_idxrqknorm",
        lacks="no op adds MiniMax-M3's index branch to norm, rotation and cache write: the branch is the same ops on its own heads",
        instead=("jax_aiter.fused_qk_norm_rope_cache", "jax_aiter.rms_norm", "jax_aiter.rope_2c", "jax_aiter.per_token_quant"),
    ),
)
