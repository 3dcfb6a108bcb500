"""Experts and routers."""

from __future__ import annotations

import dataclasses

from jax_aiter.vllm_ops import values
from jax_aiter.vllm_ops.row import Row, only, renamed, returned, same, to, unneeded

OUT = ("topk_weights", "topk_ids")
WIDTH = dataclasses.replace(to("topk", values.width), result=True)
SLICE = "of a slice of a wider buffer ours returns all: `num_fused_shared_experts` appends the rest"
SORTING = "how rows are sorted by expert is no choice of the caller's here"

ROWS = (
    Row(
        name="rocm_aiter_fused_moe",
        aliases=("fused_moe",),
        aiter="aiter.fused_moe.fused_moe",
        ops=("fused_moe",),
        arguments={
            "hidden_states": to("hidden_states"),
            "w1": to("w1", note="in plain order, or a `ShuffledWeight` of (16, 16) for the hand-written kernels"),
            "w2": to("w2", note="as w1"),
            **same("topk_weight", "topk_ids", "expert_mask"),
            "activation_method": to("activation", values.activation),
            "quant_method": to("quant_type", values.quant_type),
            **same("doweight_stage1", "w1_scale", "w2_scale", "a1_scale", "a2_scale", "num_local_tokens"),
            "output_dtype": to("output_dtype", values.dtype),
            **same("hidden_pad", "intermediate_pad"),
            "gate_mode": to("gate_mode", values.gate_mode, note="of rows of `w1` before any shuffling"),
            **same("bias1", "bias2"),
            **unneeded("moe_sorting_dispatch_policy", note=SORTING),
            "swiglu_limit": to("swiglu_limit", values.limit),
            **only(None, "beta", "linear_beta", note="of SiTUv2, which ours has not"),
            **only(None, "shared_w1", "shared_w2", "shared_w1_scale", "shared_w2_scale", note="add the shared expert's MLP"),
            **only(-1, "shared_expert_id"),
        },
        results=("out",),
        lacks="per_1x32 is MXFP4 or MXFP8 weights, with hidden states as they are unless q_dtype_a says MXFP4 or MXFP8, of which "
        "AITER decides by itself; SiTUv2 is not here; a shared expert of its own size is a second MLP whose output is "
        "added",
        instead=("jax_aiter.fused_moe", "jax_aiter.gemm_a16w16", "jax_aiter.silu_and_mul"),
    ),
    Row(
        name="fused_experts (int4_w4a16)",
        where="fused_moe.py with quantization/moe_wna16.py",
        aiter="aiter.ops.triton moe_op.fused_moe with use_int4_w4a16",
        lacks="vLLM runs a Triton kernel of its own, of which AITER has a copy; `fused_moe` of quant_type 'int4_w4a16' runs "
        "AITER's, and takes packed weights, scales and zero points as moe_wna16 keeps them",
        instead=("jax_aiter.fused_moe", "jax_aiter.pack_int4"),
    ),
    Row(
        name="rocm_aiter_asm_moe_tkw1",
        aliases=("asm_moe_tkw1",),
        aiter="aiter.fused_moe_bf16_asm.asm_moe_tkw1",
        ops=("asm_moe_tkw1",),
        arguments={
            "hidden_states": to("hidden_states"),
            "w1": to("w1", note="a `ShuffledWeight` for the kernels"),
            "w2": to("w2", note="as w1"),
            **same("topk_weights", "topk_ids", "fc1_scale", "fc2_scale", "fc1_smooth_scale", "fc2_smooth_scale", "a16"),
            **same("per_tensor_quant_scale", "expert_mask"),
            "activation_method": to("activation", values.kernels_activation),
        },
        results=("out",),
    ),
    Row(
        name="rocm_aiter_topk_softmax",
        aliases=("topk_softmax",),
        aiter="aiter.topk_softmax, aiter.topk_softmax_asm",
        ops=("topk_softmax",),
        arguments={
            "topk_weights": dataclasses.replace(to("topk", values.routed_width), result=True),
            **returned("topk_indices", note="with the numbers of shared experts behind, which vLLM writes beforehand"),
            **returned("token_expert_indices", note="not by ours; vLLM does not read it"),
            "gating_output": to("gating_output"),
            "renormalize": to("renormalize"),
            **same("num_shared_experts", "shared_expert_scoring_func"),
        },
        results=("topk_weights", "topk_indices"),
    ),
    Row(
        name="rocm_aiter_topk_sigmoid",
        aliases=("topk_sigmoid",),
        aiter="aiter.topk_sigmoid",
        ops=("topk_sigmoid",),
        arguments={
            "topk_weights": WIDTH,
            **returned("topk_indices"),
            **returned("token_expert_indices", note="not by ours; vLLM does not read it"),
            "gating_output": to("gating_output"),
            **unneeded("renormalize", note="vLLM's wrapper drops it: weights are the sigmoids as they are"),
        },
        results=("topk_weights", "topk_indices"),
    ),
    Row(
        name="rocm_aiter_biased_grouped_topk",
        aliases=("biased_grouped_topk",),
        aiter="aiter.biased_grouped_topk",
        ops=("biased_grouped_topk",),
        arguments={
            **same("gating_output", "correction_bias"),
            "topk_weights": dataclasses.replace(WIDTH, note=SLICE),
            **returned("topk_ids"),
            **same("num_expert_group", "topk_group"),
            **renamed(need_renorm="renormalize"),
            **same("routed_scaling_factor"),
        },
        results=OUT,
    ),
    Row(
        name="rocm_aiter_grouped_topk",
        aliases=("grouped_topk",),
        aiter="aiter.grouped_topk",
        ops=("grouped_topk",),
        arguments={
            **same("gating_output"),
            "topk_weights": WIDTH,
            **returned("topk_ids"),
            **same("num_expert_group", "topk_group"),
            **renamed(need_renorm="renormalize"),
            **same("scoring_func", "routed_scaling_factor"),
        },
        results=OUT,
    ),
    Row(
        name="rocm_aiter_fused_topk",
        aliases=("fused_topk",),
        aiter="aiter.fused_moe.fused_topk",
        ops=("fused_topk",),
        arguments={
            **renamed(x="hidden_states", router_logits="router_logits", top_k="topk"),
            "gate_up": to("renormalize", note="AITER's name for it"),
        },
        results=("topk_weights", "topk_indices"),
    ),
)
