"""What the provider refuses, without AITER, torch or Triton: each reason names the argument, its value and the rule."""

import types

import jax
import jax.numpy as jnp
import pytest

from jax_aiter.kernels.provider import Call, Target
from jax_aiter.kernels.triton import load
from jax_aiter.kernels.triton.adapters import adapters
from jax_aiter.kernels.triton.cache.rotated import not_aiters_rope_and_cache, not_aiters_rope_mla
from jax_aiter.kernels.triton.cache.write import not_aiters_mla

from .calls import call

ATTENTION = {"scale": 0.1, "causal": True, "sliding_window": (-1, -1), "logits_soft_cap": 0.0}
QKV = {"q": "bfloat16[1,8,2,64]", "k": "bfloat16[1,8,2,64]", "v": "bfloat16[1,8,2,64]"}
CACHE = {
    "query": "bfloat16[4,8,128]",
    "key_cache": "bfloat16[64,16,2,128]",
    "value_cache": "bfloat16[64,16,2,128]",
    "block_tables": "int32[4,8]",
    "context_lens": "int32[4]",
}
MLA = {
    "q": "bfloat16[2,16,576]",
    "kv_buffer": "bfloat16[9,16,1,576]",
    "qo_indptr": "int32[3]",
    "kv_indptr": "int32[3]",
    "kv_indices": "int32[8]",
    "kv_last_page_lens": "int32[2]",
}
LATENT = {"max_seqlen_qo": 1, "sm_scale": 0.04, "logit_cap": 0.0, "causal": True, "return_lse": True}
MOE = {
    "hidden_states": "bfloat16[4,256]",
    "w1": "bfloat16[8,256,256]",
    "w2": "bfloat16[8,256,128]",
    "topk_weight": "float32[4,2]",
    "topk_ids": "int32[4,2]",
}
ROW = {"x": "bfloat16[4,64]", "weight": "bfloat16[64]"}
PLAIN = {"transpose_scale": False}
BY_TOKEN = {"activation": "silu", "limit": 0.0, "group_size": None, **PLAIN}
STATIC = {"x": "bfloat16[4,256]", "scale": "float32[1]"}

LATENTS = {"kv_c": "bfloat16[4,512]", "k_pe": "bfloat16[4,64]", "kv_cache": "bfloat16[9,16,1,576]", "slot_mapping": "int32[4]"}
TABLES = {"positions": "int32[4]", "cos": "float32[9,32]", "sin": "float32[9,32]"}
QUERIES = {"q_nope": "bfloat16[4,8,512]", "q_pe": "bfloat16[4,8,64]"}
ROTATED = {"rotate_style": "neox", "reuse_freqs_front_part": True}
ROPE_MLA = {**ROTATED, "q_out_dtype": "bfloat16", "head_axis": True}
MLA_ROWS = {**QUERIES, **LATENTS, **TABLES}
KEYS = {"key_cache": "bfloat16[9,16,2,64]", "value_cache": "bfloat16[9,16,2,64]", "slot_mapping": "int32[4]"}
ROPE_CACHE = {"q": "bfloat16[4,8,64]", "k": "bfloat16[4,2,64]", "v": "bfloat16[4,2,64]", **KEYS, **TABLES}
NHD = {**ROTATED, "nope_first": False, "kv_layout": "NHD"}
TWO = {"q": "bfloat16[4,8,64]", "k": "bfloat16[4,2,64]", **TABLES}

PREQUANT = "batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant"
ABSORBED = {"X": "bfloat16[4,2,64]", "WQ": "fp8[4,5,64]", "w_scale": "float32[1]"}

CONV = {"x": "bfloat16[9,6]", "weight": "bfloat16[6,4]", "conv_states": "bfloat16[5,3,6]"}
CONV |= {"query_start_loc": "int32[3]", "cache_indices": "int32[2]", "has_initial_state": "bool[2]"}
UPDATE = {"x": "bfloat16[2,1,6]", "conv_state": "bfloat16[5,3,6]", "weight": "bfloat16[6,4]", "conv_state_indices": "int32[2]"}
DELTA = {"q": "bfloat16[1,9,2,12]", "k": "bfloat16[1,9,2,12]", "v": "bfloat16[1,9,2,8]", "beta": "float32[1,9,2]"}
GATED = {"scale": 0.1, "use_qk_l2norm_in_kernel": True, "ragged": False}
DECODE = {"A_log": "float32[2]", "a": "bfloat16[4,2,16]", "b": "bfloat16[4,2]", "dt_bias": "float32[2,16]", "qkv": "bfloat16[4,48]"}
DECODE |= {"initial_state": "float32[7,2,8,16]", "cu_seqlens": "int32[3]", "ssm_state_indices": "int32[2,1]"}
RULE, STATES = "fused_rearrange_sigmoid_gated_delta_rule", {"states": "float32[1,2,12,8]"}
KDA = {"beta": 1.0, "threshold": 20.0, "scale": 0.25, "use_qk_l2norm_in_kernel": True, "is_kda": True}
SCORES = {"q": "fp8[4,16,128]", "kv": "fp8[9,128]", "kv_scales": "float32[9]", "weights": "float32[4,16]"}
SCORED = {"out": "float32[4,9]"}
UNALIGNED = {"q": "fp8[4,16,30]", "kv_cache": "uint8[9,3,34]"}
PAGED_SCORES = {"q": "fp8[4,16,128]", "kv_cache": "uint8[9,16,132]", "block_tables": "int32[2,5]", "context_lens": "int32[2]"}

REFUSED = [
    ("fp8_mqa_logits", {**SCORES, "q": "fp8[4,24,128]"}, SCORED, "the number of heads of q is 24"),
    ("fp8_mqa_logits", {**SCORES, "q": "fp8[4,8,128]"}, SCORED, "q has 8 heads"),
    ("fp8_mqa_logits", {**SCORES, "q": "float8_e5m2[4,16,128]"}, SCORED, "q has dtype float8_e5m2"),
    ("fp8_paged_mqa_logits", {**PAGED_SCORES, "q": "fp8[4,129,128]"}, {"out": "float32[4,80]"}, "q has 129 heads"),
    (
        "fp8_paged_mqa_logits",
        {**PAGED_SCORES, "q": "fp8[4,16,30]", "kv_cache": "uint8[9,3,34]"},
        {"out": "float32[4,15]"},
        "aligned",
    ),
    ("rms_norm", {"x": "bfloat16[0,8]", "weight": "bfloat16[8]"}, {}, "x is empty, shape (0, 8)"),
    ("rms_norm", {"x": "bfloat16[65536,65536]", "weight": "bfloat16[65536]"}, {}, "indexes with 32 bits"),
    ("per_token_quant", {"x": "bfloat16[4,70000]"}, {"out": "fp8[4,70000]"}, "at most 65536"),
    ("per_token_quant", {"x": "bfloat16[4,64]"}, {"out": "int8[4,64]"}, "truncates instead of rounding"),
    ("group_quant", {"x": "bfloat16[4,96]"}, {"out": "fp8[4,96]", "group_size": 96}, "group_size = 96"),
    ("gelu_and_mul", {"x": "bfloat16[4,200]"}, {}, "multiple of 128"),
    ("gelu_tanh_and_mul", {"x": "bfloat16[4,200]"}, {}, "multiple of 128"),
    ("rms_norm_quant", {**ROW, "x": "bfloat16[4,70000]"}, {"out": "fp8[4,70000]"}, "x has rows of 70000 elements"),
    ("rms_norm_quant", ROW, {"out": "float8_e5m2[4,64]"}, "quant_dtype = float8_e5m2"),
    ("fused_qk_rms_norm_quant", {"q": "bfloat16[4,64]", "k": "int8[4,8]"}, {"out": "fp8[4,64]"}, "k has dtype int8"),
    ("gated_rms_norm_group_quant", ROW, {"out": "fp8[4,64]", "transpose_scale": True}, "transpose_scale = True"),
    ("gated_rms_norm_group_quant", {"x": "float32[4,32768]"}, {"out": "fp8[4,32768]", **PLAIN}, "at most 16384"),
    ("act_mul_and_quant", {"x": "bfloat16[4,200]"}, {"out": "fp8[4,100]", **BY_TOKEN}, "multiple of 128"),
    ("act_mul_and_quant", STATIC, {"out": "fp8[4,128]", **BY_TOKEN, "activation": "gelu"}, "activation = 'gelu'"),
    ("act_mul_and_quant", STATIC, {"out": "fp8[4,128]", **BY_TOKEN, "limit": 2.0}, "limit = 2.0"),
    ("layer_norm", ROW, {}, "bias is absent"),
    ("rms_norm_with_add_pad", ROW, {"out": "bfloat16[4,65792]"}, "y has rows of 65792 elements"),
    ("gemm_a16w16", {"a": "float32[4,8]", "b": "float32[4,8]"}, {}, "a has dtype float32"),
    ("gemm_a16w16_act", {"a": "float32[4,8]", "b": "float32[4,8]"}, {"activation": "silu"}, "a has dtype float32"),
    (PREQUANT, {**ABSORBED, "X": "float16[4,2,64]"}, {"out": "bfloat16[4,2,5]"}, "a group of zeros would give NaN"),
    (PREQUANT, ABSORBED, {"out": "float32[4,2,5]"}, "out_dtype = float32"),
    ("flash_attention", {**QKV, "bias": "bfloat16[8,8]"}, ATTENTION, "bias is given"),
    ("flash_attention", QKV, {**ATTENTION, "logits_soft_cap": 5.0}, "logits_soft_cap = 5.0"),
    ("flash_attention", QKV, {**ATTENTION, "causal": False, "sliding_window": (3, 1)}, "sliding_window = (3, 1)"),
    ("flash_attention", {**QKV, "v": "bfloat16[1,8,2,36]"}, ATTENTION, "v has head size 36"),
    ("flash_attention", {**QKV, "q": "bfloat16[1,9,2,64]"}, {**ATTENTION, "attention_chunk_size": 4}, "more queries than keys"),
    ("flash_attention_bwd", {**QKV, "dlse": "float32[1,2,8]"}, ATTENTION, "dlse is given"),
    ("paged_attention", CACHE, {"kv_layout": "vllm"}, "kv_layout = 'vllm'"),
    ("paged_attention", {**CACHE, "key_cache": "bfloat16[64,8,2,128]"}, {"kv_layout": "NHD"}, "blocks of 8 tokens"),
    ("paged_attention", CACHE, {"kv_layout": "NHD", "attention_chunk_size": 24}, "attention_chunk_size = 24"),
    ("mla_decode_fwd", MLA, {**LATENT, "logit_cap": 20.0}, "logit_cap = 20.0"),
    ("mla_decode_fwd", MLA, {**LATENT, "max_seqlen_qo": 2}, "max_seqlen_qo = 2"),
    ("concat_and_cache_mla", {**LATENTS, "kv_c": "bfloat16[4,70000]"}, {}, "kv_c has rows of 70000 elements"),
    ("fused_qk_rope_concat_and_cache_mla", MLA_ROWS, {**ROPE_MLA, "q_out_dtype": "float8_e4m3fn"}, "q_out_dtype = float8_e4m3fn"),
    ("rope_and_cache", {**ROPE_CACHE, "q": "bfloat16[4,65532,64]"}, NHD, "65536 heads of queries, keys and values"),
    (
        "reshape_and_cache",
        {**KEYS, "key": "bfloat16[4,2,64]", "value": "bfloat16[4,2,70000]"},
        NHD,
        "value has rows of 70000 elements",
    ),
    ("rope_2c", {**TWO, "q": "bfloat16[4,6,64]", "k": "bfloat16[4,6,64]"}, NHD, "writes past the last"),
    ("rope_2c", {**TWO, "cos": "bfloat16[9,32]"}, NHD, "cos has dtype bfloat16"),
    ("causal_conv1d_fn", {**CONV, "weight": "bfloat16[6,5]"}, {"activation": "silu"}, "width = 5"),
    ("causal_conv1d_update", {**UPDATE, "weight": "bfloat16[6,1]"}, {"activation": "silu"}, "width = 1"),
    ("causal_conv1d_update", {**UPDATE, "x": "bfloat16[2,17,6]"}, {"activation": "silu"}, "17 tokens of a sequence"),
    ("chunk_gated_delta_rule", {**DELTA, "gk": "float32[1,9,2,12]"}, {**GATED, **STATES}, "K, with gk, is 12"),
    ("chunk_gated_delta_rule", {**DELTA, "q": "bfloat16[1,9,2,2048]"}, {**GATED, **STATES}, "K = 2048"),
    (RULE, {**DECODE, "ssm_state_indices": "int32[2,3]"}, KDA, "is_kda with 3 tokens of a sequence"),
    (RULE, {**DECODE, "initial_state": "float32[7,2,8,12]"}, KDA, "K, with is_kda, is 12"),
    (RULE, DECODE, {**KDA, "scale": -0.5}, "scale = -0.5"),
    ("fused_moe", MOE, {"quant_type": "none", "activation": "silu", "weight_layout": (16, 16)}, "weight_layout = (16, 16)"),
    ("fused_moe", {**MOE, "a2_scale": "float32[1]"}, {"quant_type": "none", "activation": "silu"}, "a2_scale is given"),
    (
        "fused_moe",
        {**MOE, "w1": "fp8[8,256,256]", "w2": "fp8[8,256,128]", "w1_scale": "float32[8,2,2]", "w2_scale": "float32[8,2,1]"},
        {"quant_type": "per_1x128", "activation": "silu", "intermediate_pad": 3},
        "intermediate_pad = 3",
    ),
]


@pytest.mark.parametrize(("op", "operands", "params", "reason"), REFUSED)
def test_refused_with_the_rule(op, operands, params, reason):
    params = dict(params)
    first = next(iter(operands.values()))
    results = [params.pop("out", first), *([params.pop("states")] if "states" in params else [])]
    spec = call(op, "gfx942", operands, results, **params)
    assert reason in adapters()[op].refuse(spec)


def _call(arch="gfx942", dtype=jnp.bfloat16, op="rms_norm"):
    struct = jax.ShapeDtypeStruct
    operands = {"x": struct((4, 8), dtype), "weight": struct((8,), dtype)}
    return Call(op, Target("rocm", arch), operands, {"epsilon": 1e-6}, (struct((4, 8), dtype),))


@pytest.mark.parametrize("arch", ["gfx90a", "sm_80", None])
def test_other_architectures(arch):
    assert "compiled for gfx942, gfx950, sm_90" in load().refuse(_call(arch))


def test_ops_without_kernels_say_why():
    assert "no Triton kernel for shuffle_weight" in load().refuse(_call(op="shuffle_weight"))
    assert "token | slot << 24" in load().refuse(_call(op="moe_sorting"))


def test_the_wrong_fp8_is_refused():
    assert "computes in float8_e4m3fnuz" in load().refuse(_call(dtype=jnp.float8_e4m3fn))


def test_without_aiter_the_remedy_is_named(empty_root):
    assert "jax-aiter kernels add PATH" in load().refuse(_call())


def test_adapters_name_their_sources():
    """AITER's wrappers, but where its Triton half has no kernel for an op's contract."""
    assert all(isinstance(a.run, types.FunctionType) for a in adapters().values())
    ours = {op for op, a in adapters().items() if not a.source.startswith("aiter.ops.triton.")}
    writers = {"fused_qk_norm_rope_cache", "reshape_and_cache", "reshape_and_cache_with_pertoken_quant"}
    # Its wrapper takes pages of one token, or compiles by itself, which nothing records; its routing orders otherwise.
    assert ours == {*writers, "fp8_paged_mqa_logits", "top_k_per_row_decode", "top_k_per_row_prefill", "topk_softmax"}


# Which calls AITER's kernels take and which our own: sizes, dtypes and rotations that AITER's have not.
OWN = [
    (not_aiters_mla, LATENTS, {}, None),
    (not_aiters_mla, {**LATENTS, "kv_c": "bfloat16[4,384]"}, {}, "last dimension of kv_c is 384"),
    (not_aiters_mla, {**LATENTS, "kv_cache": "float16[9,16,1,576]"}, {}, "kv_cache has dtype float16"),
    (not_aiters_rope_mla, MLA_ROWS, ROPE_MLA, None),
    (not_aiters_rope_mla, {**MLA_ROWS, "q_scale": "float32[1]"}, ROPE_MLA, "q_scale is given"),
    (not_aiters_rope_mla, {**MLA_ROWS, "kv_cache": "fp8[9,16,1,576]"}, ROPE_MLA, "leaves it to the conversion to saturate"),
    (not_aiters_rope_and_cache, ROPE_CACHE, NHD, None),
    (not_aiters_rope_and_cache, {**ROPE_CACHE, "k": "bfloat16[4,3,64]", "v": "bfloat16[4,3,64]"}, NHD, "q has 8 heads and k 3"),
    (not_aiters_rope_and_cache, {**ROPE_CACHE, "key_cache": "bfloat16[9,12,2,64]"}, NHD, "the block size is 12"),
    (not_aiters_rope_and_cache, ROPE_CACHE, {**NHD, "reuse_freqs_front_part": False}, "rotates the whole head (64)"),
]


@pytest.mark.parametrize(("rule", "operands", "params", "reason"), OWN)
def test_what_our_own_writers_are_for(rule, operands, params, reason):
    found = rule(call("", "gfx942", operands, [next(iter(operands.values()))], **params))
    assert found is None if reason is None else reason in found
