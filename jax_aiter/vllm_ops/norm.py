"""Norms and activations, alone and with what AITER fuses to them."""

from __future__ import annotations

from jax_aiter.vllm_ops import values
from jax_aiter.vllm_ops.row import Row, renamed, returned, same, to

DTYPE = {"quant_dtype": to("quant_dtype", values.dtype)}
VARIANCE = renamed(variance_epsilon="epsilon")
DUAL = {
    **same("q", "q_weight"),
    **renamed(kv="k", kv_weight="k_weight", q_epsilon="q_epsilon", kv_epsilon="k_epsilon"),
}

ROWS = (
    Row(
        name="rms_norm",
        aiter="aiter.rms_norm",
        ops=("rms_norm",),
        arguments=same("x", "weight", "epsilon"),
        results=("out",),
    ),
    Row(
        name="rms_norm2d_with_add",
        aiter="aiter.rmsnorm2d_fwd_with_add",
        ops=("rms_norm_with_add",),
        arguments=same("x", "residual", "weight", "epsilon"),
        results=("out", "residual_out"),
    ),
    Row(
        name="rocm_aiter_rmsnorm_fused_dynamic_quant",
        aiter="aiter.rmsnorm2d_fwd_with_dynamicquant",
        ops=("rms_norm_quant",),
        arguments={**same("x", "weight", "epsilon"), **DTYPE},
        results=("out", "y_scale"),
    ),
    Row(
        name="rocm_aiter_rmsnorm_fused_add_dynamic_quant",
        aiter="aiter.rmsnorm2d_fwd_with_add_dynamicquant",
        ops=("rms_norm_quant", "rms_norm_add_quant"),
        arguments={**same("x", "residual", "weight", "epsilon"), **DTYPE},
        results=("out", "y_scale", "residual_out"),
    ),
    Row(
        name="rocm_aiter_rmsnorm_fp8_group_quant",
        aiter="aiter.ops.triton fused_rms_fp8_group_quant",
        ops=("rms_norm_quant", "rms_norm_group_quant"),
        arguments={**same("x", "weight"), **VARIANCE, **same("group_size")},
        results=("out", "scale"),
    ),
    Row(
        name="rocm_aiter_rmsnorm_with_add_fp8_group_quant",
        aiter="aiter.ops.triton fused_rms_fp8_group_quant(res1=residual)",
        ops=("rms_norm_quant", "rms_norm_add_group_quant"),
        arguments={**same("x", "residual", "weight"), **VARIANCE, **same("group_size")},
        results=("out", "scale", "residual_out"),
    ),
    Row(
        name="rocm_aiter_fused_rms_gated_fp8_group_quant",
        aiter="aiter.ops.triton fused_rms_gated_fp8_group_quant",
        ops=("gated_rms_norm_group_quant",),
        arguments={
            **same("x", "weight", "bias", "z"),
            **renamed(eps="epsilon"),
            **same("norm_before_gate", "activation", "group_size"),
        },
        results=("out", "scale"),
    ),
    Row(
        name="rocm_aiter_act_mul_and_fp8_group_quant",
        aiter="aiter.ops.triton act_mul_and_fp8_group_quant",
        ops=("act_mul_and_quant", "act_mul_and_group_quant"),
        arguments=same("x", "group_size"),
        given={"activation": "silu"},
        results=("out", "scale"),
    ),
    Row(
        name="silu_and_mul",
        aliases=("gelu_and_mul", "gelu_tanh_and_mul"),
        where="model_executor/layers/activation.py (vLLM's own ops, AITER's twins)",
        aiter="aiter.silu_and_mul, gelu_and_mul, gelu_tanh_and_mul",
        ops=("silu_and_mul", "gelu_and_mul", "gelu_tanh_and_mul"),
        arguments={**returned("out"), **same("x")},
        results=("out",),
    ),
    Row(
        name="rocm_aiter_triton_add_rmsnorm_pad",
        aiter="aiter.ops.triton fused_add_rmsnorm_pad",
        ops=("rms_norm_with_add_pad",),
        arguments={**same("x", "weight"), **VARIANCE, **same("residual", "x_pad_to_multiple")},
        results=("out", "residual_out"),
    ),
    Row(
        name="fused_mla_dual_rms_norm",
        aiter="aiter.ops.fused_qk_norm_rope_cache_quant._fused_qk_rmsnorm",
        ops=("fused_qk_rms_norm",),
        arguments=renamed(
            x1="q", x1_weight="q_weight", x2="k", x2_weight="k_weight", x1_epsilon="q_epsilon", x2_epsilon="k_epsilon"
        ),
        results=("x1", "x2"),
    ),
    Row(
        name="fused_mla_dual_rms_norm_per_token_quant",
        aiter="aiter.fused_qk_rmsnorm_per_token_quant",
        ops=("fused_qk_rms_norm_quant",),
        arguments=DUAL,
        results=("q_out", "q_scale", "kv_normed"),
    ),
    Row(
        name="fused_mla_dual_rms_norm_group_quant",
        aliases=("fused_qk_rmsnorm_group_quant",),
        aiter="aiter.fused_qk_rmsnorm_group_quant",
        ops=("fused_qk_rms_norm_quant",),
        arguments={**DUAL, "group_size": to("group_size", default=128), **same("transpose_scale")},
        results=("q_out", "q_scale", "kv_normed"),
    ),
)
