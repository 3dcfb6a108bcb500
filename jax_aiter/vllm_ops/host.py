"""Functions of vLLM's that compute on the host: names of enums, and what the installed AITER can do."""

from __future__ import annotations

from jax_aiter.vllm_ops.row import Row

ROWS = (
    Row(
        name="is_aiter_found",
        aliases=("is_aiter_found_and_supported", "if_aiter_supported", "is_enabled"),
        aiter="none: whether it is installed",
        lacks="functions of the same names and sense; switches are those of `config` (docs/settings.md)",
        instead=("jax_aiter.is_aiter_found", "jax_aiter.is_aiter_found_and_supported", "jax_aiter.if_aiter_supported"),
    ),
    Row(
        name="is_triton_gemm_w8a8_tuned",
        aliases=(
            "is_triton_gemm_afp4wfp4_presh_ws_tuned",
            "is_shuffled_per_token_w8a8_gemm_tuned",
            "is_per_token_w8a8_gemm_tuned",
            "fused_moe_supports_gate_mode",
            "fused_moe_supports_heterogeneous_shared_expert",
            "topk_softmax_supports_fused_sigmoid",
            "fuse_sigmoid_in_kernel",
            "mla_decode_supports_non_causal",
            "get_moe_dispatch_policy",
        ),
        aiter="AITER's tuned tables and signatures",
        lacks="what can run a call, and which kernel is chosen by which rule, is asked for the call itself",
        instead=("jax_aiter.supports", "jax_aiter.explain"),
    ),
    Row(
        name="get_aiter_activation_type",
        aliases=("get_aiter_quant_type",),
        aiter="ActivationType, QuantType",
        lacks="ours takes the names as strings; `translate` turns numbers and enums into them. No SiTUv2",
        instead=("jax_aiter.fused_moe", "jax_aiter.vllm_ops.translate"),
    ),
)
