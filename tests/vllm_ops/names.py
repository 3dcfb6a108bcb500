"""The names in vLLM's ``_aiter_ops.py``, and AITER's in the ROCm code around it, that the table must have."""


def _names(words: str) -> list[str]:
    return words.split()


#: Registered as custom operations.
REGISTERED = _names(
    "rocm_aiter_asm_moe_tkw1 rocm_aiter_fused_moe rocm_aiter_topk_softmax rocm_aiter_topk_sigmoid "
    "rocm_aiter_biased_grouped_topk rocm_aiter_grouped_topk rocm_aiter_fused_topk rocm_aiter_mla_decode_fwd "
    "rocm_aiter_mla_decode_fwd_lse rocm_aiter_w8a8_gemm _rocm_aiter_preshuffled_per_token_w8a8_gemm rocm_aiter_hipb_mm_fp8 "
    "rocm_aiter_triton_gemm_a8w8_blockscale rocm_aiter_gemm_a8w8_blockscale rocm_aiter_gemm_a8w8_blockscale_bpreshuffle "
    "rocm_aiter_rmsnorm_fused_dynamic_quant rocm_aiter_rmsnorm_fused_add_dynamic_quant rocm_aiter_rmsnorm_fp8_group_quant "
    "rocm_aiter_fused_rms_gated_fp8_group_quant rocm_aiter_rmsnorm_with_add_fp8_group_quant "
    "rocm_aiter_act_mul_and_fp8_group_quant rocm_aiter_triton_add_rmsnorm_pad rocm_aiter_group_fp8_quant "
    "rocm_aiter_per_tensor_quant rocm_aiter_per_token_quant rocm_aiter_sparse_attn_indexer aiter_fp8_attn_wrapper "
    "rocm_aiter_gemm_a8wfp4 rocm_aiter_triton_rotary_embedding rocm_aiter_fused_allreduce_rmsnorm "
    "rocm_aiter_fused_allreduce_rmsnorm_quant_per_group rocm_aiter_fused_allreduce_rmsnorm_quant_per_group_with_bf16_norm "
    "fused_mla_dual_rms_norm fused_mla_dual_rms_norm_per_token_quant fused_mla_dual_rms_norm_group_quant "
)

#: Functions of the class ``rocm_aiter_ops`` that compute something, or say what can be computed.
WRAPPED = _names(
    "get_aiter_activation_type get_aiter_quant_type fused_qknorm_idxrqknorm fused_qk_rmsnorm_group_quant rms_norm "
    "rms_norm2d_with_add w8a8_gemm preshuffled_per_token_w8a8_gemm hipb_mm_fp8 triton_gemm_a8w8_blockscale "
    "gemm_a8w8_blockscale gemm_a8w8_blockscale_bpreshuffle fused_moe asm_moe_tkw1 topk_softmax topk_sigmoid "
    "biased_grouped_topk grouped_topk fused_topk mla_decode_fwd mla_decode_fwd_lse per_tensor_quant per_token_quant "
    "gemm_a8wfp4 triton_fp4_gemm_dynamic_quant fused_qk_norm_rope_and_cache do_qk_norm_rope_kvcache_update "
    "triton_rope_and_cache batched_gemm_a16wfp4 triton_fp8_bmm group_fp8_quant is_triton_gemm_w8a8_tuned "
    "is_triton_gemm_afp4wfp4_presh_ws_tuned is_shuffled_per_token_w8a8_gemm_tuned is_per_token_w8a8_gemm_tuned shuffle_weight "
    "shuffle_weight_a16w4 shuffle_scale_a16w4 shuffle_scale shuffle_weights shuffle_mxfp8_moe_weights flash_attn_varlen_func "
    "fp8_attn_wrapper pa_fwd_asm paged_attention_common mhc_pre mhc_pre_delayed mhc_fused_post_pre_delayed_prefers_unfused "
    "hc_head mhc_post mhc_fused_post_pre topk_softmax_supports_fused_sigmoid fuse_sigmoid_in_kernel "
    "mla_decode_supports_non_causal fused_moe_supports_gate_mode fused_moe_supports_heterogeneous_shared_expert "
    "get_moe_dispatch_policy "
)

#: Called by attention backends, experts, linear kernels and samplers beside it.
AROUND = _names(
    "paged_attention_v1 merge_attn_states cp_mha_gather_cache reshape_and_cache reshape_and_cache_flash unified_attention "
    "get_mla_metadata_info_v1 get_mla_metadata_v1 get_ps_metadata_info_v1 get_ps_metadata_v1 mla_prefill_ps_asm_fwd "
    "mla_reduce_v1 flydsl_flash_attn_fp8_func concat_and_cache_mla fused_qk_rope_concat_and_cache_mla fp8_mqa_logits "
    "flydsl_fp8_mqa_logits deepgemm_fp8_paged_mqa_logits top_k_per_row_prefill top_k_per_row_decode pa_sparse_prefill_opus "
    "indexer_k_quant_and_cache cp_gather_indexer_k_quant_cache indexer_qk_rope_quant_and_cache gemm_a4w4 gemm_afp4wfp4 "
    "gemm_afp4wfp4_preshuffled_weight_scales dynamic_mxfp4_quant moe_gemm_a8w4 moe_gemm_a16w4 dynamic_mxfp8_quant "
    "fused_clamp_act_mul tgemm.mm gemm_a16w16 CustomAllreduce custom_all_reduce custom_fused_ar_rms "
    "fused_ar_rms_per_group_quant init_custom_qr qr_get_handle qr_open_handles qr_all_reduce_rmsnorm "
    "top_k_top_p_sampling_from_probs top_p_sampling_from_probs top_k_renorm_probs gated_delta_net "
    "causal_conv1d_update_single_token gather_kv_b_proj "
)

#: Our public functions that vLLM's ROCm code has no operation for, and why.
WITHOUT = {
    "asm_moe": "AITER's older entry point; vLLM calls fused_moe and asm_moe_tkw1",
    "flash_attention": "named beside flash_attention_varlen: vLLM packs its sequences",
    "grouped_gemm": "for training; in vLLM experts are fused_moe's",
    "transposed_grouped_gemm": "the gradient of grouped_gemm",
    "layer_norm": "torch's own in vLLM",
    "layer_norm_with_add": "torch's own in vLLM",
    "batched_gemm_a8w8": "vLLM quantises inside of its batched product (triton_fp8_bmm)",
    "moe_sorting": "inside of AITER's fused_moe",
    "moe_stage1_g1u1": "inside of AITER's fused_moe",
    "moe_stage1_g1u1_blockscale": "inside of AITER's fused_moe",
    **dict.fromkeys(
        ("top_k_mask_logits", "sampling_from_logits"), "vLLM sorts logits in torch where FlashInfer or AITER does not sample"
    ),
    "rope_tables": "computed by vLLM's model code",
}
