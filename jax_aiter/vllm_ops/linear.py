"""Linear attention: the gated delta rule (Qwen3-Next, Qwen3.5), Kimi delta attention, and the convolutions in front of them."""

from __future__ import annotations

from jax_aiter.vllm_ops import values
from jax_aiter.vllm_ops.row import Row, only, same, to, unneeded

GDN = "model_executor/layers/mamba/gdn_linear_attn.py"
STATE = {"conv_state": to("conv_state", values.channels_last, note="returned updated; in place if it is donated")}
CHUNK = "theirs sizes its work by it"
LAZY = "vLLM's block caching of states has no counterpart"

ROWS = (
    Row(
        name="causal_conv1d_fn",
        where=GDN,
        aiter="aiter.ops.triton.conv.causal_conv1d.causal_conv1d_fn, causal_conv1d_split_qkv_triton_fn",
        ops=("causal_conv1d_fn",),
        arguments={
            "x": to("x", values.channels_last),
            **same("weight", "bias"),
            "conv_states": to("conv_states", values.channels_last, note="returned updated; in place if it is donated"),
            **same("query_start_loc", "cache_indices", "has_initial_state", "activation", "pad_slot_id"),
            **unneeded("seq_lens_cpu", "metadata", note=CHUNK),
            **unneeded("validate_data", note="shapes are checked always"),
        },
        results=("out", "conv_states"),
    ),
    Row(
        name="causal_conv1d_update_single_token",
        aliases=("causal_conv1d_update",),
        where=GDN,
        aiter="aiter.ops.triton.conv causal_conv1d_update_single_token, causal_conv1d_update",
        ops=("causal_conv1d_update",),
        arguments={
            "x": to("x", values.tokens_before_channels),
            **STATE,
            **same("weight", "bias", "activation", "conv_state_indices", "num_accepted_tokens"),
            **only(None, "query_start_loc", note="rows of equal length, [B, L, dim]"),
            **unneeded("max_query_len", note="of query_start_loc"),
            **same("pad_slot_id"),
            **only(None, "block_idx_last_scheduled_token", "initial_state_idx", note=LAZY),
            **unneeded("validate_data", note="shapes are checked always"),
        },
        results=("out", "conv_state"),
    ),
    Row(
        name="chunk_gated_delta_rule",
        aliases=("chunk_gated_delta_rule_opt", "chunk_gated_delta_rule_opt_vk", "fused_recurrent_gated_delta_rule"),
        where=GDN,
        aiter="aiter.ops.triton.gated_delta_net chunk_gated_delta_rule, fused_recurrent_gated_delta_rule",
        ops=("chunk_gated_delta_rule", "fused_recurrent_gated_delta_rule"),
        arguments={
            **same("q", "k", "v", "g", "beta", "scale", "initial_state", "output_final_state", "use_qk_l2norm_in_kernel"),
            **same("cu_seqlens"),
        },
        results=("o", "final_state"),
    ),
    Row(
        name="gated_delta_net",
        aliases=("fused_rearrange_sigmoid_gated_delta_rule",),
        where=GDN,
        aiter="aiter.ops.triton.gated_delta_net.fused_rearrange_sigmoid_gated_delta_rule",
        ops=("fused_rearrange_sigmoid_gated_delta_rule",),
        arguments={
            **same("A_log", "a", "b", "dt_bias", "qkv"),
            **unneeded("key_dim", "value_dim", "head_k_dim", "head_v_dim", note="the shapes say it"),
            **same("beta", "threshold", "scale"),
            "initial_state": to("initial_state", note="returned updated; in place if it is donated"),
            **only(True, "inplace_final_state", note="theirs else returns a state for every token"),
            **same("cu_seqlens", "ssm_state_indices", "num_accepted_tokens", "use_qk_l2norm_in_kernel", "is_kda"),
            **unneeded("core_attn_out", note="a buffer for what ours returns"),
        },
        results=("o", "final_state"),
    ),
    Row(
        name="chunk_kimi_delta_attn",
        where="model_executor/layers/kda.py",
        aiter="aiter.ops.triton.kimi_delta_attn.chunk_kimi_delta_attn",
        ops=("chunk_kimi_delta_attn",),
        arguments={
            **same("q", "k", "v", "g", "beta", "A_log", "dt_bias", "scale", "initial_state", "output_final_state"),
            **same("use_qk_l2norm_in_kernel", "use_gate_in_kernel", "use_beta_sigmoid_in_kernel", "safe_gate", "lower_bound"),
            **same("state_v_first"),
            **unneeded("disable_recompute", "chunk_size", note="it changes no result"),
            **same("cu_seqlens"),
        },
        results=("o", "final_state"),
    ),
)
