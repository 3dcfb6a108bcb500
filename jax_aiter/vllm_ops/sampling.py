"""Samplers. vLLM calls three of AITER's, ATOM the two of `aiter.ops.sample`."""

from __future__ import annotations

from jax_aiter.vllm_ops import values
from jax_aiter.vllm_ops.row import Row, only, renamed, returned, same, to, unneeded

SAMPLER = "v1/sample/ops/topk_topp_sampler.py"
ATOM = "ATOM's sampler (model_ops/sampler.py), not vLLM"
TOP_K = {
    "maybe_top_k_arr": to("top_k", values.rows_or_top_k),
    **unneeded("top_k_val", note="taken where maybe_top_k_arr is None"),
}
TOP_P = {
    "maybe_top_p_arr": to("top_p", values.rows_or_top_p),
    **unneeded("top_p_val", note="taken where maybe_top_p_arr is None"),
}
DRAWN = {
    **unneeded("deterministic", note="a key draws the same on every run"),
    "generator": to("key", note="a key of jax.random in its place, or one for each row"),
}
EVERY_ROW = only(None, "indices", note="rows are drawn from in their order: take probs[indices]")

ROWS = (
    Row(
        name="top_k_top_p_sampling_from_probs",
        where=SAMPLER,
        aiter="aiter.ops.sampling.top_k_top_p_sampling_from_probs",
        ops=("top_k_top_p_sampling_from_probs", "sampling_from_probs", "sampling_with_uniforms"),
        arguments={**same("probs"), **EVERY_ROW, **TOP_K, **TOP_P, **DRAWN},
        results=("output",),
    ),
    Row(
        name="top_p_sampling_from_probs",
        where=SAMPLER,
        aiter="aiter.ops.sampling.top_p_sampling_from_probs",
        ops=("top_p_sampling_from_probs", "top_k_sampling_from_probs", "min_p_sampling_from_probs"),
        arguments={**same("probs"), **EVERY_ROW, **TOP_P, **DRAWN},
        results=("samples",),
    ),
    Row(
        name="top_k_renorm_probs",
        where=SAMPLER,
        aiter="aiter.ops.sampling.top_k_renorm_probs",
        ops=("top_k_renorm_probs", "top_p_renorm_probs", "min_p_renorm_probs", "renorm_probs"),
        arguments={**same("probs"), **TOP_K},
        results=("renorm_probs",),
    ),
    Row(
        name="rejection_sample",
        where="v1/sample/rejection_sampler.py (vLLM's own Triton kernels)",
        aiter="none",
        lacks="drafts are padded to [B, n] with -1 where vLLM packs them; its draws are ours by `chain_speculative_sampling`",
        instead=("jax_aiter.chain_speculative_sampling", "jax_aiter.chain_speculative_sampling_with_uniforms"),
    ),
    Row(
        name="greedy_sample",
        where=ATOM,
        aiter="aiter.greedy_sample",
        ops=("greedy_sample",),
        arguments={**returned("out"), **renamed(input="logits")},
        results=("out",),
    ),
    Row(
        name="mixed_sample_outer_exponential",
        aliases=("random_sample_outer_exponential",),
        where=ATOM,
        aiter="aiter.mixed_sample_outer_exponential, random_sample_outer_exponential",
        ops=("mixed_sample_outer_exponential", "mixed_sample"),
        arguments={**returned("out"), **renamed(input="logits"), **same("exponentials", "temperature", "eps")},
        results=("out",),
    ),
)
