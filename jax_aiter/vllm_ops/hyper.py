"""DeepSeek-V4: hyper-connections and its routing; and kernels of AITER that no model here asks for, which have no op."""

from __future__ import annotations

from jax_aiter.vllm_ops import values
from jax_aiter.vllm_ops.row import Row, renamed, returned, same, to, unneeded

MIX = same("fn", "hc_scale", "hc_base", "rms_eps", "hc_pre_eps", "hc_sinkhorn_eps", "hc_post_mult_value", "sinkhorn_repeat")
NORM = same("norm_weight", "norm_eps")

ROWS = (
    Row(
        name="mhc_pre",
        aiter="aiter.ops.mhc.mhc_pre",
        ops=("mhc_pre",),
        arguments={**same("residual"), **MIX, **NORM},
        results=("post_mix", "comb_mix", "layer_input"),
    ),
    Row(
        name="mhc_pre_delayed",
        aiter="aiter.ops.mhc.mhc_pre_gemm_sqrsum, mhc_fused_post_pre_gemm_sqrsum, mhc_pre_big_fuse",
        lacks="the product of one step is not kept for the next: `mhc_fused_post_pre` begins with the streams",
        instead=("jax_aiter.mhc_post", "jax_aiter.mhc_pre"),
    ),
    Row(
        name="hc_head",
        aiter="aiter.ops.mhc.mhc_pre",
        ops=("hc_head",),
        arguments={
            **renamed(hs_flat="hidden_states", fn="hc_fn"),
            **same("hc_scale", "hc_base"),
            **returned("out"),
            **unneeded("hidden_size", note="the shapes say it"),
            **renamed(rms_eps="rms_norm_eps"),
            **same("hc_eps"),
            **unneeded("hc_mult", note="the shapes say it"),
        },
        results=("out",),
    ),
    Row(
        name="mhc_post",
        aiter="aiter.ops.mhc.mhc_post",
        ops=("mhc_post",),
        arguments=same("x", "residual", "post_layer_mix", "comb_res_mix"),
        results=("out",),
    ),
    Row(
        name="mhc_fused_post_pre",
        aliases=("mhc_fused_post_pre_delayed_prefers_unfused",),
        aiter="aiter.ops.mhc.mhc_fused_post_pre",
        ops=("mhc_fused_post_pre",),
        arguments={
            **renamed(x="layer_input", residual="residual_in"),
            **same("post_layer_mix", "comb_res_mix"),
            **MIX,
            **NORM,
        },
        results=("post_mix", "comb_mix", "layer_input", "residual"),
    ),
    Row(
        name="topk_gating",
        aliases=("topk_softplus",),
        where="DeepSeek-V4's router",
        aiter="aiter.topk_gating",
        ops=("topk_gating",),
        arguments={
            "topk_weights": to("topk", values.width, note="returned"),
            **returned("topk_indices"),
            **same("gating_output", "correction_bias", "need_renorm", "routed_scaling_factor", "score_func"),
        },
        results=("topk_weights", "topk_indices"),
    ),
    Row(
        name="situv2",
        where="VLLM_ROCM_USE_AITER_MOE_SITUV2",
        aiter="aiter.fused_moe with ActivationType.Situv2",
        lacks="AITER has it in FlyDSL's kernels of MXFP4 weights only, which no provider here runs",
    ),
    Row(
        name="block_sparse_attention",
        aliases=("vsa_sparse_attention", "fav3_sage"),
        where="diffusion models of other projects, not vLLM",
        aiter="aiter.ops.vsa_sparse_attention, aiter.ops.triton.attention.fav3_sage with a block_lut",
        lacks="attention of blocks of queries to listed blocks of keys: nothing here asks for it yet; to chosen tokens it is "
        "`mla_sparse_fwd`",
    ),
    Row(
        name="hstu_attention",
        where="recommenders of other projects, not vLLM",
        aiter="aiter.ops.triton.attention.hstu_attention",
        lacks="attention without a softmax, whose scores go through silu: nothing here asks for it yet",
    ),
)
