"""AITER's kernels as JAX primitives.

Public names only. An op's module is imported when its name is first used: thirty records cost more to make than a program that
uses three of them should pay at start-up. The handlers of compiled programs are registered at once, and so are the pytrees that may
stand in a program's signature, since a deserialised program asks for them without naming any op.
"""

from typing import TYPE_CHECKING, Any

from jax_aiter.core.config import config as config
from jax_aiter.core.config import debug_checks as debug_checks
from jax_aiter.core.errors import KernelBuildError as KernelBuildError
from jax_aiter.core.errors import NotSupportedError as NotSupportedError
from jax_aiter.kernels import _native
from jax_aiter.ops.gemm.shuffled import ShuffledScale as ShuffledScale
from jax_aiter.ops.gemm.shuffled import ShuffledWeight as ShuffledWeight
from jax_aiter.ops.quant.outputs import Quantized as Quantized

if TYPE_CHECKING:
    from jax_aiter import parallel as parallel
    from jax_aiter import vllm_ops as vllm_ops
    from jax_aiter.bind.explain import explain as explain
    from jax_aiter.core.arch import fp8_dtype as fp8_dtype
    from jax_aiter.core.arch import target_arch as target_arch
    from jax_aiter.kernels.found import if_aiter_supported as if_aiter_supported
    from jax_aiter.kernels.found import is_aiter_found as is_aiter_found
    from jax_aiter.kernels.found import is_aiter_found_and_supported as is_aiter_found_and_supported
    from jax_aiter.ops.activation.act_mul_and_quant import act_mul_and_group_quant as act_mul_and_group_quant
    from jax_aiter.ops.activation.act_mul_and_quant import act_mul_and_quant as act_mul_and_quant
    from jax_aiter.ops.activation.gelu_and_mul import gelu_and_mul as gelu_and_mul
    from jax_aiter.ops.activation.gelu_tanh_and_mul import gelu_tanh_and_mul as gelu_tanh_and_mul
    from jax_aiter.ops.activation.silu_and_mul import silu_and_mul as silu_and_mul
    from jax_aiter.ops.attention.flash_attention import flash_attention as flash_attention
    from jax_aiter.ops.attention.flash_attention_fp8 import flash_attention_fp8 as flash_attention_fp8
    from jax_aiter.ops.attention.flash_attention_varlen import flash_attention_varlen as flash_attention_varlen
    from jax_aiter.ops.attention.flash_attention_varlen_fp8 import flash_attention_varlen_fp8 as flash_attention_varlen_fp8
    from jax_aiter.ops.attention.gather_cache import gather_cache as gather_cache
    from jax_aiter.ops.attention.get_pa_metadata_v1 import get_pa_metadata_v1 as get_pa_metadata_v1
    from jax_aiter.ops.attention.merge_attention_states import merge_attention_states as merge_attention_states
    from jax_aiter.ops.attention.pa_fwd_asm import pa_fwd_asm as pa_fwd_asm
    from jax_aiter.ops.attention.pa_persistent_fwd import pa_persistent_fwd as pa_persistent_fwd
    from jax_aiter.ops.attention.paged_attention import paged_attention as paged_attention
    from jax_aiter.ops.attention.unified_attention import unified_attention as unified_attention
    from jax_aiter.ops.cache.concat_and_cache_mla import concat_and_cache_mla as concat_and_cache_mla
    from jax_aiter.ops.cache.fused_qk_norm_rope_cache import fused_qk_norm_rope_cache as fused_qk_norm_rope_cache
    from jax_aiter.ops.cache.fused_qk_rope_concat_and_cache_mla import (
        fused_qk_rope_concat_and_cache_mla as fused_qk_rope_concat_and_cache_mla,
    )
    from jax_aiter.ops.cache.reshape_and_cache import reshape_and_cache as reshape_and_cache
    from jax_aiter.ops.cache.reshape_and_cache_with_pertoken_quant import (
        reshape_and_cache_with_pertoken_quant as reshape_and_cache_with_pertoken_quant,
    )
    from jax_aiter.ops.cache.rope_and_cache import rope_and_cache as rope_and_cache
    from jax_aiter.ops.catalogue import supports as supports
    from jax_aiter.ops.gemm.batched_gemm_a8w8 import batched_gemm_a8w8 as batched_gemm_a8w8
    from jax_aiter.ops.gemm.batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant import (
        batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant as batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant,  # noqa: E501
    )
    from jax_aiter.ops.gemm.batched_gemm_a16wfp4 import batched_gemm_a16wfp4 as batched_gemm_a16wfp4
    from jax_aiter.ops.gemm.batched_gemm_bf16 import batched_gemm_bf16 as batched_gemm_bf16
    from jax_aiter.ops.gemm.e8m0_shuffle import e8m0_shuffle as e8m0_shuffle
    from jax_aiter.ops.gemm.gemm_a4w4 import gemm_a4w4 as gemm_a4w4
    from jax_aiter.ops.gemm.gemm_a4w4_bpreshuffle import gemm_a4w4_bpreshuffle as gemm_a4w4_bpreshuffle
    from jax_aiter.ops.gemm.gemm_a8w8 import gemm_a8w8 as gemm_a8w8
    from jax_aiter.ops.gemm.gemm_a8w8_blockscale import gemm_a8w8_blockscale as gemm_a8w8_blockscale
    from jax_aiter.ops.gemm.gemm_a8w8_blockscale_bpreshuffle import (
        gemm_a8w8_blockscale_bpreshuffle as gemm_a8w8_blockscale_bpreshuffle,
    )
    from jax_aiter.ops.gemm.gemm_a8w8_bpreshuffle import gemm_a8w8_bpreshuffle as gemm_a8w8_bpreshuffle
    from jax_aiter.ops.gemm.gemm_a8wfp4 import gemm_a8wfp4 as gemm_a8wfp4
    from jax_aiter.ops.gemm.gemm_a16w16 import gemm_a16w16 as gemm_a16w16
    from jax_aiter.ops.gemm.gemm_a16w16_bpreshuffle import gemm_a16w16_bpreshuffle as gemm_a16w16_bpreshuffle
    from jax_aiter.ops.gemm.gemm_a16wfp4 import gemm_a16wfp4 as gemm_a16wfp4
    from jax_aiter.ops.gemm.shuffle_weight import shuffle_weight as shuffle_weight
    from jax_aiter.ops.indexer.cp_gather_indexer_k_quant_cache import (
        cp_gather_indexer_k_quant_cache as cp_gather_indexer_k_quant_cache,
    )
    from jax_aiter.ops.indexer.fp8_mqa_logits import fp8_mqa_logits as fp8_mqa_logits
    from jax_aiter.ops.indexer.fp8_paged_mqa_logits import fp8_paged_mqa_logits as fp8_paged_mqa_logits
    from jax_aiter.ops.indexer.indexer_k_quant_and_cache import indexer_k_quant_and_cache as indexer_k_quant_and_cache
    from jax_aiter.ops.indexer.indexer_qk_rope_quant_and_cache import (
        indexer_qk_rope_quant_and_cache as indexer_qk_rope_quant_and_cache,
    )
    from jax_aiter.ops.indexer.req_to_global_index import req_to_global_index as req_to_global_index
    from jax_aiter.ops.indexer.sparse_attn_indexer import sparse_attn_indexer as sparse_attn_indexer
    from jax_aiter.ops.indexer.top_k_per_row_decode import top_k_per_row_decode as top_k_per_row_decode
    from jax_aiter.ops.indexer.top_k_per_row_prefill import top_k_per_row_prefill as top_k_per_row_prefill
    from jax_aiter.ops.linear_attention.causal_conv1d_fn import causal_conv1d_fn as causal_conv1d_fn
    from jax_aiter.ops.linear_attention.causal_conv1d_update import causal_conv1d_update as causal_conv1d_update
    from jax_aiter.ops.linear_attention.chunk_gated_delta_rule import chunk_gated_delta_rule as chunk_gated_delta_rule
    from jax_aiter.ops.linear_attention.chunk_kimi_delta_attn import chunk_kimi_delta_attn as chunk_kimi_delta_attn
    from jax_aiter.ops.linear_attention.fused_rearrange_sigmoid_gated_delta_rule import (
        fused_rearrange_sigmoid_gated_delta_rule as fused_rearrange_sigmoid_gated_delta_rule,
    )
    from jax_aiter.ops.linear_attention.fused_recurrent_gated_delta_rule import (
        fused_recurrent_gated_delta_rule as fused_recurrent_gated_delta_rule,
    )
    from jax_aiter.ops.mhc.hc_head import hc_head as hc_head
    from jax_aiter.ops.mhc.mhc_fused_post_pre import mhc_fused_post_pre as mhc_fused_post_pre
    from jax_aiter.ops.mhc.mhc_post import mhc_post as mhc_post
    from jax_aiter.ops.mhc.mhc_pre import mhc_pre as mhc_pre
    from jax_aiter.ops.mla.get_mla_metadata_v1 import get_mla_metadata_v1 as get_mla_metadata_v1
    from jax_aiter.ops.mla.mla_decode_fwd import mla_decode_fwd as mla_decode_fwd
    from jax_aiter.ops.mla.mla_prefill_fwd import mla_prefill_fwd as mla_prefill_fwd
    from jax_aiter.ops.mla.mla_sparse_fwd import mla_sparse_fwd as mla_sparse_fwd
    from jax_aiter.ops.moe.asm_moe import asm_moe as asm_moe
    from jax_aiter.ops.moe.asm_moe_tkw1 import asm_moe_tkw1 as asm_moe_tkw1
    from jax_aiter.ops.moe.fused_moe import fused_moe as fused_moe
    from jax_aiter.ops.moe.grouped_gemm import grouped_gemm as grouped_gemm
    from jax_aiter.ops.moe.moe_sorting import moe_sorting as moe_sorting
    from jax_aiter.ops.moe.moe_stage1_g1u1 import moe_stage1_g1u1 as moe_stage1_g1u1
    from jax_aiter.ops.moe.moe_stage1_g1u1_blockscale import moe_stage1_g1u1_blockscale as moe_stage1_g1u1_blockscale
    from jax_aiter.ops.moe.transposed_grouped_gemm import transposed_grouped_gemm as transposed_grouped_gemm
    from jax_aiter.ops.norm.fused_qk_rms_norm import fused_qk_rms_norm as fused_qk_rms_norm
    from jax_aiter.ops.norm.fused_qk_rms_norm_quant import fused_qk_rms_norm_quant as fused_qk_rms_norm_quant
    from jax_aiter.ops.norm.gated_rms_norm_group_quant import gated_rms_norm_group_quant as gated_rms_norm_group_quant
    from jax_aiter.ops.norm.layer_norm import layer_norm as layer_norm
    from jax_aiter.ops.norm.layer_norm_with_add import layer_norm_with_add as layer_norm_with_add
    from jax_aiter.ops.norm.rms_norm import rms_norm as rms_norm
    from jax_aiter.ops.norm.rms_norm_quant import rms_norm_add_group_quant as rms_norm_add_group_quant
    from jax_aiter.ops.norm.rms_norm_quant import rms_norm_add_quant as rms_norm_add_quant
    from jax_aiter.ops.norm.rms_norm_quant import rms_norm_group_quant as rms_norm_group_quant
    from jax_aiter.ops.norm.rms_norm_quant import rms_norm_quant as rms_norm_quant
    from jax_aiter.ops.norm.rms_norm_with_add import rms_norm_with_add as rms_norm_with_add
    from jax_aiter.ops.norm.rms_norm_with_add_pad import rms_norm_with_add_pad as rms_norm_with_add_pad
    from jax_aiter.ops.quant.convert_fp8 import convert_fp8 as convert_fp8
    from jax_aiter.ops.quant.dynamic_mxfp4_quant import dynamic_mxfp4_quant as dynamic_mxfp4_quant
    from jax_aiter.ops.quant.dynamic_mxfp8_quant import dynamic_mxfp8_quant as dynamic_mxfp8_quant
    from jax_aiter.ops.quant.group_quant import group_quant as group_quant
    from jax_aiter.ops.quant.mx_dequant import mx_dequant as mx_dequant
    from jax_aiter.ops.quant.pack_int4 import pack_int4 as pack_int4
    from jax_aiter.ops.quant.per_tensor_quant import per_tensor_quant as per_tensor_quant
    from jax_aiter.ops.quant.per_token_quant import per_token_quant as per_token_quant
    from jax_aiter.ops.rope.rope import rope as rope
    from jax_aiter.ops.rope.rope import rope_positions as rope_positions
    from jax_aiter.ops.rope.rope_2c import rope_2c as rope_2c
    from jax_aiter.ops.rope.rope_tables import rope_tables as rope_tables
    from jax_aiter.ops.routing.biased_grouped_topk import biased_grouped_topk as biased_grouped_topk
    from jax_aiter.ops.routing.fused_topk import fused_topk as fused_topk
    from jax_aiter.ops.routing.grouped_topk import grouped_topk as grouped_topk
    from jax_aiter.ops.routing.topk_gating import topk_gating as topk_gating
    from jax_aiter.ops.routing.topk_sigmoid import topk_sigmoid as topk_sigmoid
    from jax_aiter.ops.routing.topk_softmax import topk_softmax as topk_softmax
    from jax_aiter.ops.sampling.chain_speculative_sampling import chain_speculative_sampling as chain_speculative_sampling
    from jax_aiter.ops.sampling.chain_speculative_sampling_with_uniforms import (
        chain_speculative_sampling_with_uniforms as chain_speculative_sampling_with_uniforms,
    )
    from jax_aiter.ops.sampling.greedy_sample import greedy_sample as greedy_sample
    from jax_aiter.ops.sampling.mixed_sample_outer_exponential import (
        mixed_sample_outer_exponential as mixed_sample_outer_exponential,
    )
    from jax_aiter.ops.sampling.renorm_probs import min_p_renorm_probs as min_p_renorm_probs
    from jax_aiter.ops.sampling.renorm_probs import renorm_probs as renorm_probs
    from jax_aiter.ops.sampling.renorm_probs import top_k_renorm_probs as top_k_renorm_probs
    from jax_aiter.ops.sampling.renorm_probs import top_p_renorm_probs as top_p_renorm_probs
    from jax_aiter.ops.sampling.sampling_from_logits import mixed_sample as mixed_sample
    from jax_aiter.ops.sampling.sampling_from_logits import sampling_from_logits as sampling_from_logits
    from jax_aiter.ops.sampling.sampling_from_probs import min_p_sampling_from_probs as min_p_sampling_from_probs
    from jax_aiter.ops.sampling.sampling_from_probs import sampling_from_probs as sampling_from_probs
    from jax_aiter.ops.sampling.sampling_from_probs import top_k_sampling_from_probs as top_k_sampling_from_probs
    from jax_aiter.ops.sampling.sampling_from_probs import top_k_top_p_sampling_from_probs as top_k_top_p_sampling_from_probs
    from jax_aiter.ops.sampling.sampling_from_probs import top_p_sampling_from_probs as top_p_sampling_from_probs
    from jax_aiter.ops.sampling.sampling_with_uniforms import sampling_with_uniforms as sampling_with_uniforms
    from jax_aiter.ops.sampling.top_k_mask_logits import top_k_mask_logits as top_k_mask_logits

__version__ = "0.1.0"

_native.register()

# Names of this package that are no ops, and of functions beside one; a public function `x` of an op stands in a module `x`.
_ELSEWHERE = {
    "act_mul_and_group_quant": "ops.activation.act_mul_and_quant",
    "explain": "bind.explain",
    "fp8_dtype": "core.arch",
    "if_aiter_supported": "kernels.found",
    "is_aiter_found": "kernels.found",
    "is_aiter_found_and_supported": "kernels.found",
    "min_p_renorm_probs": "ops.sampling.renorm_probs",
    "min_p_sampling_from_probs": "ops.sampling.sampling_from_probs",
    "mixed_sample": "ops.sampling.sampling_from_logits",
    "rms_norm_add_group_quant": "ops.norm.rms_norm_quant",
    "rms_norm_add_quant": "ops.norm.rms_norm_quant",
    "rms_norm_group_quant": "ops.norm.rms_norm_quant",
    "rope_positions": "ops.rope.rope",
    "supports": "ops.catalogue",
    "target_arch": "core.arch",
    "top_k_renorm_probs": "ops.sampling.renorm_probs",
    "top_k_sampling_from_probs": "ops.sampling.sampling_from_probs",
    "top_k_top_p_sampling_from_probs": "ops.sampling.sampling_from_probs",
    "top_p_renorm_probs": "ops.sampling.renorm_probs",
    "top_p_sampling_from_probs": "ops.sampling.sampling_from_probs",
}

# Subpackages that are part of what users see.
_PACKAGES = ("parallel", "vllm_ops")

# Names that `__getattr__` has put here; a reload of the package finds them again.
for _name in globals().get("_resolved", ()):
    globals().pop(_name, None)
_resolved: set[str] = set()


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__all__":
        return [n for n in __dir__() if not n.startswith("_")]
    if name in _PACKAGES:
        found = importlib.import_module(f"jax_aiter.{name}")
    elif name in _ELSEWHERE:
        found = getattr(importlib.import_module(f"jax_aiter.{_ELSEWHERE[name]}"), name)
    else:
        from jax_aiter.ops import catalogue

        found = None if name.startswith("_") else catalogue.function(name)
    if found is None:  # no such module, or one that holds only a record, such as the backward op of another
        raise AttributeError(f"module 'jax_aiter' has no attribute {name!r}")
    _resolved.add(name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    from jax_aiter.ops import catalogue

    return sorted({*globals(), *_ELSEWHERE, *_PACKAGES, *catalogue.functions()} - {"TYPE_CHECKING", "Any"})
