"""What has no op here: hyper-connections (DeepSeek-V4), the gated delta rule (Qwen3-Next), sampling."""

from __future__ import annotations

from jax_aiter.vllm_ops.row import Row

HYPER = (
    "manifold-constrained hyper-connections have no op; they are a float32 product, a norm and Sinkhorn steps over a few streams"
)
PARTS = ("jax_aiter.rms_norm", "jax.numpy.einsum", "jax.nn.sigmoid", "jax.lax.fori_loop")


def _hyper(name: str, aiter: str, *aliases: str) -> Row:
    return Row(name=name, aliases=aliases, aiter=aiter, lacks=HYPER, instead=PARTS)


ROWS = (
    _hyper("mhc_pre", "aiter.ops.mhc.mhc_pre"),
    _hyper("mhc_pre_delayed", "aiter.ops.mhc.mhc_pre_gemm_sqrsum, mhc_fused_post_pre_gemm_sqrsum, mhc_pre_big_fuse"),
    _hyper("hc_head", "aiter.ops.mhc.mhc_pre"),
    _hyper("mhc_post", "aiter.ops.mhc.mhc_post"),
    _hyper("mhc_fused_post_pre", "aiter.ops.mhc.mhc_fused_post_pre", "mhc_fused_post_pre_delayed_prefers_unfused"),
    Row(
        name="top_k_top_p_sampling_from_probs",
        aliases=("top_p_sampling_from_probs", "top_k_renorm_probs"),
        where="v1/sample/ops/topk_topp_sampler.py",
        aiter="aiter.top_k_top_p_sampling_from_probs, top_p_sampling_from_probs, top_k_renorm_probs",
        lacks="no op samples: keep the k largest, cut where their running sum passes p, draw",
        instead=("jax.lax.top_k", "jax.numpy.cumsum", "jax.random.categorical"),
    ),
    Row(
        name="gated_delta_net",
        aliases=("causal_conv1d_update_single_token", "chunk_kimi_delta_attn"),
        where="model_executor/layers/mamba/gdn_linear_attn.py",
        aiter="aiter.ops.triton gated_delta_net, causal_conv1d_update_single_token",
        lacks="linear attention has no op: the recurrence is a scan over tokens, the convolution a window over the last few",
        instead=("jax.lax.scan", "jax.lax.conv_general_dilated", "jax_aiter.gated_rms_norm_group_quant"),
    ),
)
