"""Calls beside the records' own small ones: longer than a block of a reference, with all that there is not to be read."""

import jax.numpy as jnp

from jax_aiter.core.cases import Case, case, constant, distinct, integers, normal, permutation, uniform
from jax_aiter.ops.moe.cases import FNUZ, _call, _scales

BF16 = jnp.bfloat16
I32 = jnp.int32


def flash(**changed):
    params = {"scale": 0.3, "causal": True, "sliding_window": (-1, -1), "logits_soft_cap": 0.0, "alibi_per_sequence": False}
    return {**params, **changed}


def fp8(**changed):
    return {n: v for n, v in flash(**changed).items() if n not in ("logits_soft_cap", "alibi_per_sequence")} | {
        "descale_per_head": True
    }


def packed(**changed):
    """300 tokens of 3 sequences; queries and keys behind the last belong to none."""
    offsets = {"cu_seqlens_q": constant([0, 140, 150, 280], I32), "cu_seqlens_k": constant([0, 140, 170, 290], I32)}
    return {**offsets, "max_seqlen_q": 140, "max_seqlen_k": 140, **changed}


def paged(blocks: int, size: int, heads: int, dim: int, dtype, **changed):
    params = {"scale": 0.3, "logits_soft_cap": 0.0, "sliding_window": 0, "kv_layout": "NHD", "per_token_scales": False}
    caches = {n: normal(blocks, size, heads, dim, dtype=dtype) for n in ("key_cache", "value_cache")}
    return {**caches, **params, **changed}


def tokens(n: int, heads: int, kv_heads: int, dim: int, dtype=jnp.float32):
    return {name: normal(n, h, dim, dtype=dtype) for name, h in (("q", heads), ("k", kv_heads), ("v", kv_heads))}


def sequences(b: int, sq: int, sk: int, heads: int, kv_heads: int, dim: int, dtype=jnp.float32):
    return {n: normal(b, s, h, dim, dtype=dtype) for n, s, h in (("q", sq, heads), ("k", sk, kv_heads), ("v", sk, kv_heads))}


def larger() -> dict[str, list[Case]]:
    per_token = {"k_scale": uniform(40, 2, 16, low=0.5), "v_scale": uniform(40, 2, 16, low=0.5), "per_token_scales": True}
    held = {"expert_mask": constant([1, 0, 1, 0, 1, 1], I32), "num_local_tokens": constant([6], I32)}
    big = {
        **_call(7, 4, 2, 256, 256, dtype=BF16, topk_ids=distinct(7, 2, 6)),
        "w1": normal(4, 512, 256, dtype=FNUZ, std=20),
        "w2": normal(4, 256, 256, dtype=FNUZ, std=20),
        "hidden_pad": 130,
        "intermediate_pad": 128,
        "activation": "swiglu",
        **held,
    }
    small = {
        **_call(7, 4, 1, 16, 8, dtype=BF16, topk_ids=distinct(7, 1, 6)),
        "w1": normal(4, 16, 16, dtype=FNUZ, std=20),
        "w2": normal(4, 16, 8, dtype=FNUZ, std=20),
        "hidden_pad": 2,
        **held,
    }
    biases = {"bias1": normal(4, 512), "bias2": normal(4, 256)}
    ready = {"hidden_states": normal(7, 256, dtype=FNUZ), "a1_scale": uniform(7, 2, low=0.5), "output_dtype": jnp.dtype(BF16)}
    mla = {"qo_indptr": constant([0, 100, 101], I32), "kv_indptr": constant([0, 60, 75], I32), "sm_scale": 0.04, "causal": True}
    return {
        "flash_attention": [
            case("blocks_causal", **sequences(2, 260, 260, 2, 1, 8), **flash()),
            case("blocks_window", **sequences(1, 140, 300, 2, 2, 8, BF16), **flash(sliding_window=(30, -1))),
            case("blocks_more_queries", **sequences(1, 150, 20, 1, 1, 8), bias=normal(150, 20), **flash(logits_soft_cap=4.0)),
        ],
        "flash_attention_varlen": [
            case("blocks_causal", **tokens(300, 2, 1, 8), **packed(), **flash()),
            case("blocks_window", **tokens(300, 2, 2, 8, BF16), **packed(), **flash(causal=False, sliding_window=(9, 2))),
        ],
        "flash_attention_varlen_fp8": [
            case(
                "blocks",
                **tokens(300, 2, 1, 16, FNUZ),
                **{n: uniform(3, 1, low=0.5) for n in ("q_descale", "k_descale", "v_descale")},
                **packed(),
                **fp8(sliding_window=(40, -1)),
            )
        ],
        "paged_attention": [
            case(
                "blocks_window_scales",
                query=normal(70, 4, 16, dtype=BF16),
                block_tables=permutation(2, 19, among=40),
                context_lens=constant([300, 130], I32),
                cu_seqlens=constant([0, 60, 68], I32),
                ragged=True,
                **paged(40, 16, 2, 16, FNUZ, sliding_window=50, **per_token),
            )
        ],
        "unified_attention": [
            case(
                "blocks_sinks",
                q=normal(150, 2, 8),
                block_tables=permutation(2, 30, among=70),
                context_lens=constant([201, 150], I32),
                cu_seqlens_q=constant([0, 5, 145], I32),
                sinks=normal(2),
                causal=True,
                **paged(70, 8, 1, 8, jnp.float32, sliding_window=60),
            )
        ],
        "mla_prefill_fwd": [
            case(
                "blocks",
                q=normal(103, 1, 576),
                kv_buffer=normal(80, 3, 1, 576),
                kv_indices=permutation(78, among=80),
                kv_last_page_lens=constant([1, 3], I32),
                max_seqlen_q=100,
                **{n: v for n, v in mla.items() if n != "causal"},
            )
        ],
        "fused_moe": [
            case("batched", **_call(64, 4, 2, 8, 6, topk_ids=integers(64, 2, low=0, high=3))),
            case("per_1x128_padded", **{**big, **_scales("per_1x128", 4, 256, 256), **biases}),
            case("per_1x128_padded_ready", **{**big, **_scales("per_1x128", 4, 256, 256), **ready}),
            case("per_token_padded", **{**big, **_scales("per_token", 4, 256, 256), **biases}),
            case("per_tensor_masked", **{**small, **_scales("per_tensor", 4, 16, 8)}),
        ],
    }
