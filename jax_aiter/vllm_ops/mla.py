"""DeepSeek's multi-head latent attention: decoding over the latent cache, prefill, the norms and writes around it."""

from __future__ import annotations

import dataclasses

from jax_aiter.vllm_ops import values
from jax_aiter.vllm_ops.row import Row, only, renamed, returned, same, to, unneeded

WORK = ("work_meta_data", "work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map")
DECODE = {
    **same("q"),
    "kv_buffer": to("kv_buffer", values.pages),
    **returned("o"),
    **same("sm_scale", "qo_indptr", "max_seqlen_qo", "kv_indptr", "kv_indices", "kv_last_page_lens", "logit_cap"),
    **same("q_scale", "kv_scale"),
}

ROWS = (
    Row(
        name="rocm_aiter_mla_decode_fwd",
        aliases=("mla_decode_fwd",),
        aiter="aiter.mla.mla_decode_fwd",
        ops=("mla_decode_fwd",),
        arguments={**DECODE, **same(*WORK, "causal")},
        results=("o",),
        lacks="packed caches of other widths (DeepSeek-V4, V3.2's fp8 with inline scales)",
        instead=("jax_aiter.mla_decode_fwd",),
    ),
    Row(
        name="rocm_aiter_mla_decode_fwd_lse",
        aliases=("mla_decode_fwd_lse",),
        aiter="aiter.mla.mla_decode_fwd(return_lse=True)",
        ops=("mla_decode_fwd",),
        arguments=DECODE,
        given={"return_lse": True},
        results=("o", "lse"),
    ),
    Row(
        name="get_mla_metadata_v1",
        aliases=("get_mla_metadata_info_v1",),
        where="v1/attention/backends/mla/rocm_aiter_mla.py",
        aiter="aiter.get_mla_metadata_info_v1, get_mla_metadata_v1",
        ops=("get_mla_metadata_v1",),
        arguments={
            **same("seqlens_qo_indptr", "seqlens_kv_indptr", "kv_last_page_lens"),
            **same("num_heads_per_head_k", "num_heads_k", "is_causal"),
            **returned("work_metadata_ptrs", note="as work_meta_data: what the list was made for, in place of two addresses"),
            **returned("work_info_set", "work_indptr", "reduce_indptr", "reduce_final_map", "reduce_partial_map"),
            **same("page_size", "max_seqlen_qo", "dtype_q", "dtype_kv"),
            **only(16, "kv_granularity"),
            **unneeded("uni_seqlen_qo", "fast_mode", note="one closed form serves all"),
            **only(-1, "topk", "max_split_per_batch"),
        },
        results=("work_metadata_ptrs", *WORK[1:]),
    ),
    Row(
        name="flash_attn_varlen_func (MLA prefill)",
        where="v1/attention/backends/mla/prefill/aiter_flash_attn.py, aiter_triton_mla.py",
        aiter="aiter.flash_attn_varlen_func, heads of 192 and 128",
        ops=("flash_attention_varlen", "mla_prefill_fwd"),
        arguments={
            **same("q", "k", "v", "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"),
            **renamed(softmax_scale="scale"),
            **same("causal", "return_lse"),
        },
        results=("out",),
    ),
    Row(
        name="mla_prefill_ps_asm_fwd",
        aliases=("get_ps_metadata_info_v1", "get_ps_metadata_v1", "mla_reduce_v1"),
        where="v1/attention/backends/mla/prefill/aiter_asm.py",
        aiter="aiter.mla.mla_prefill_ps_asm_fwd, mla_reduce_v1",
        lacks="the persistent fp8 kernels of 192 and 128 (two on gfx950) are not called; scales of whole tensors are taken by",
        instead=("jax_aiter.flash_attention_varlen_fp8", "jax_aiter.merge_attention_states"),
    ),
    Row(
        name="flydsl_flash_attn_fp8_func",
        where="v1/attention/backends/mla/prefill/aiter_flydsl_fp8.py",
        aiter="aiter FlyDSL flash attention, fp8",
        ops=("flash_attention_varlen_fp8",),
        arguments={
            **same("q", "k", "v", "q_descale", "k_descale", "v_descale", "cu_seqlens_q", "cu_seqlens_k"),
            **same("max_seqlen_q", "max_seqlen_k"),
            **renamed(softmax_scale="scale"),
            **same("causal", "return_lse"),
        },
        results=("out",),
        lacks="heads of 192 and 128 run on XLA: FlyDSL's kernels are not among those that run here",
        instead=("jax_aiter.flash_attention_varlen_fp8",),
    ),
    Row(
        name="concat_and_cache_mla",
        where="_custom_ops.py (vLLM's own op, AITER's twin)",
        aiter="aiter.concat_and_cache_mla",
        ops=("concat_and_cache_mla",),
        arguments={
            **same("kv_c", "k_pe"),
            "kv_cache": to("kv_cache", note="returned updated; in place if it is donated"),
            **same("slot_mapping"),
            **unneeded("kv_cache_dtype", note="the cache's own dtype says it"),
            **same("scale"),
        },
        results=("kv_cache",),
    ),
    Row(
        name="fused_qk_rope_concat_and_cache_mla",
        where="mla_aiter_qk_rope_kvcache_fusion.py",
        aiter="aiter.fused_qk_rope_concat_and_cache_mla",
        ops=("fused_qk_rope_concat_and_cache_mla",),
        arguments={
            **same("q_nope", "q_pe", "kv_c", "k_pe"),
            "kv_cache": to("kv_cache", note="returned updated; in place if it is donated"),
            "q_out": dataclasses.replace(to("q_out_dtype", values.dtype_of), result=True),
            **same("slot_mapping", "k_scale", "q_scale", "positions"),
            **renamed(cos_cache="cos", sin_cache="sin"),
            "is_neox": to("rotate_style", values.rotate_style),
            **unneeded("is_nope_first", note="MLA's queries end in what is rotated"),
        },
        results=("q_out", "k_pe", "kv_cache"),
    ),
    Row(
        name="mla_decode_fwd (sparse)",
        where="v1/attention/backends/mla/rocm_aiter_mla_sparse.py",
        aiter="aiter.mla.mla_decode_fwd over the top-k tokens of each query, pages of one token",
        ops=("mla_decode_fwd", "mla_sparse_fwd", "req_to_global_index"),
        arguments=DECODE,
        results=("o",),
    ),
    Row(
        name="gather_kv_b_proj",
        where="MLA prefill over cached context",
        aiter="aiter.ops.triton gather_kv_b_proj",
        lacks="no op gathers latents and expands them in one: index the cache by the block table, multiply by the up-projection",
        instead=("jax.numpy.take", "jax_aiter.gemm_a16w16"),
    ),
)
