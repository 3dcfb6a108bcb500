"""Calls whose data are odd but defined: sequences of no context, lengths beyond a table, block numbers and ids of nothing."""

import jax.numpy as jnp
import numpy as np

from jax_aiter.core.cases import Case, case, constant, integers, normal, uniform
from jax_aiter.ops.moe.cases import FNUZ, _call, _scales

from .poison_cases import flash, fp8, sequences, tokens

BF16 = jnp.bfloat16
I32 = jnp.int32
PAGED = {"scale": 0.3, "logits_soft_cap": 0.0, "sliding_window": 0, "kv_layout": "NHD", "per_token_scales": False}
TABLE = constant([[1, 2], [3, 99], [-1, 4], [5, 6]], I32)


def pair(names: str, *shape: int):
    return {n: uniform(*shape, low=0.5) for n in names.split()}


def ints(**values):
    return {n: constant(v, I32) for n, v in values.items()}


def caches(*shape: int, dtype=FNUZ):
    return {n: normal(*shape, dtype=dtype) for n in ("key_cache", "value_cache")}


def asm_caches(blocks: int, heads: int, size: int, dim: int):
    return {"key_cache": normal(blocks, heads, dim // 16, size, 16, dtype=FNUZ)} | {
        "value_cache": normal(blocks, heads, size // 16, dim, 16, dtype=FNUZ)
    }


def paged() -> dict[str, list[Case]]:
    per_token, per_tensor = pair("k_scale v_scale", 9, 2, 16), pair("k_scale v_scale", 1)
    q, lengths = {"query": normal(4, 4, 16, dtype=BF16)}, ints(context_lens=[40, 20, 20, 0])
    unified = {"q": normal(14, 4, 16, dtype=BF16), "causal": True, "sinks": normal(4), "block_tables": TABLE}
    unified |= ints(cu_seqlens_q=[0, 6, 8, 9, 12], context_lens=[20, 11, 9, 0])
    return {
        "paged_attention": [
            case(
                "odd_per_token",
                **{**PAGED, "per_token_scales": True, "logits_soft_cap": 3.0},
                **{**q, **caches(9, 16, 2, 16), **per_token, **lengths, "block_tables": TABLE, "ragged": False},
            ),
            case("odd_per_tensor", **q, **caches(9, 16, 2, 16), **per_tensor, **lengths, block_tables=TABLE, ragged=False, **PAGED),
        ],
        "unified_attention": [
            case("odd_window", **unified, **caches(9, 8, 2, 16), **per_tensor, **{**PAGED, "sliding_window": 5}),
            case("odd_all_keys", **{**unified, **caches(9, 8, 2, 16, dtype=BF16), **PAGED, "causal": False, "sliding_window": 3}),
        ],
        "pa_fwd_asm": [
            case(
                "odd",
                query=normal(9, 4, 128, dtype=BF16),
                **asm_caches(8, 2, 16, 128),
                **ints(block_tables=[[1, 2], [3, 7], [4, 5]], context_lens=[33, 2, 0], qo_indptr=[0, 4, 7, 8]),
                **pair("k_scale v_scale", 8, 2, 16),
                max_qlen=3,
                high_precision=1,
            )
        ],
        "pa_persistent_fwd": [
            case(
                "odd",
                query=normal(9, 4, 128, dtype=BF16),
                **asm_caches(8, 2, 16, 128),
                **ints(qo_indptr=[0, 4, 7, 8], kv_indptr=[0, 2, 4, 4], kv_indices=[5, 2, 7, 1, 0, 3], context_lens=[40, 2, 9]),
                **pair("k_scale v_scale", 8, 2),
                max_qlen=3,
                per_block=True,
            )
        ],
        "mla_decode_fwd": [mla("odd", BF16, logit_cap=2.0, causal=True), mla("odd_fp8", FNUZ, causal=False)],
    }


def mla(name: str, dtype, **changed) -> Case:
    scales = pair("q_scale kv_scale", 1) if dtype == FNUZ else {}
    offsets = ints(qo_indptr=[0, 2, 3, 3, 5], kv_indptr=[0, 2, 2, 5, 7], kv_last_page_lens=[3, 1, 9, 0])
    offsets |= ints(kv_indices=[3, 99, 1, 5, -1, 7, 8, 2, 2, 99])
    data = {"q": normal(9, 4, 576, dtype=dtype), "kv_buffer": normal(12, 4, 1, 576, dtype=dtype)}
    return case(
        name, **data, **offsets, **scales, **{"max_seqlen_qo": 2, "sm_scale": 0.04, "logit_cap": 0.0, **changed}, return_lse=True
    )


def moe(quant: str, suffix: str = "", **changed) -> Case:
    ids = [[1, 3], [0, 2], [5, 5], [4, 1], [-1, 9], [2, 0], [0, 1], [2, 2], [4, 5]]
    call = _call(9, 4, 2, 256, 128, dtype=BF16, topk_ids=constant(ids, I32))
    weights = {"w1": normal(4, 256, 256, dtype=FNUZ, std=20), "w2": normal(4, 256, 128, dtype=FNUZ, std=20)}
    held = ints(expert_mask=[1, 0, 1, 0, 1, 1], num_local_tokens=[6])
    return case(f"odd_{quant}{suffix}", **{**call, **weights, **_scales(quant, 4, 256, 128), **held, **changed})


def odd() -> dict[str, list[Case]]:
    masked = {"cu_seqlens_q": [0, 3, 3, 9, 15], "cu_seqlens_k": [0, 5, 8, 10, 10]}
    inside = {"cu_seqlens_q": [2, 3, 3, 9, 15], "cu_seqlens_k": [1, 5, 8, 10, 17]}
    longest = {"max_seqlen_q": 6, "max_seqlen_k": 7}
    alibi = {"alibi_slopes": uniform(4, 2), **flash(alibi_per_sequence=True, sliding_window=(2, -1))}
    logits = normal(6, 20)
    return {
        **paged(),
        "fp8_paged_mqa_logits": [
            case(
                "odd",
                q=normal(7, 4, 8, dtype=FNUZ),
                kv_cache=integers(5, 4, 16, low=0, high=60, dtype=jnp.uint8),
                weights=uniform(7, 4, low=0.1),
                **ints(block_tables=[[2, 1], [4, 99], [0, 3]], context_lens=[11, 3, 0], cu_seqlens_q=[0, 3, 5, 6]),
                preshuffle=False,
            )
        ],
        "fp8_mqa_logits": [
            case(
                "odd",
                q=normal(5, 3, 8, dtype=FNUZ),
                kv=normal(300, 8, dtype=FNUZ),
                kv_scales=uniform(300, low=0.1),
                weights=normal(5, 3),
                **ints(cu_starts=[-3, 290, 128, 200, 7], cu_ends=[4, 400, 128, 190, 270]),
            )
        ],
        "cp_gather_indexer_k_quant_cache": [
            case(
                "odd",
                kv_cache=integers(5, 4, 16, low=0, high=60, dtype=jnp.uint8),
                **ints(block_table=[[2, 1], [4, 99], [0, -3]], cu_seq_lens=[1, 4, 4, 10]),
                total_tokens=12,
                head_dim=8,
                quant_block_size=8,
                preshuffle=False,
                quant_dtype=np.dtype(FNUZ),
            )
        ],
        "top_k_per_row_prefill": [
            case("odd", logits=logits, **ints(row_starts=[0, 5, 19, 3, -4, 30], row_ends=[20, 9, 20, 3, 25, 40]), k=4, stable=True)
        ],
        "top_k_per_row_decode": [case("odd", logits=logits, **ints(seq_lens=[25, 1, 0]), next_n=2, k=4, stable=True)],
        "fused_moe": [
            moe("per_tensor"),
            moe("per_token"),
            moe("per_tensor", "_no_tokens", a1_scale=uniform(1), **ints(num_local_tokens=[0])),
        ],
        "flash_attention_varlen": [
            case(
                "odd_right", **tokens(20, 2, 1, 8, BF16), **ints(**masked), **longest, **flash(causal=False, sliding_window=(-1, 1))
            ),
            case("odd_alibi", **tokens(20, 2, 1, 8, BF16), **ints(**inside), **longest, **alibi),
        ],
        "flash_attention": [
            case("odd_queries", **sequences(2, 9, 4, 2, 1, 8, BF16), **flash(sliding_window=(1, 1))),
            case("odd_itself", **sequences(2, 1, 150, 2, 1, 8, BF16), **flash(sliding_window=(0, 0), logits_soft_cap=5.0)),
        ],
        "flash_attention_fp8": [
            case(
                "odd_queries",
                **sequences(2, 9, 4, 2, 1, 16, FNUZ),
                **pair("q_descale k_descale v_descale", 1),
                **{**fp8(), "descale_per_head": False},
            )
        ],
        "rope": [
            case(
                "odd",
                x=normal(5, 2, 8),
                cos=normal(16, 4),
                sin=normal(16, 4),
                **ints(positions=[0, 99, -3, 7, 15]),
                rotate_style="neox",
                reuse_freqs_front_part=True,
                nope_first=False,
            )
        ],
        "reshape_and_cache": [
            case(
                "odd",
                **{n: normal(6, 2, 8, dtype=BF16) for n in ("key", "value")},
                **caches(4, 4, 2, 8),
                **ints(slot_mapping=[3, -1, 16, 999, 0, -99]),
                **pair("k_scale v_scale", 1),
                kv_layout="NHD",
            )
        ],
        "moe_sorting": [
            case(
                "odd",
                topk_weights=uniform(4, 2),
                **ints(topk_ids=[[1, 3], [0, 2], [-1, 9], [4, 1]], expert_mask=[1, 0, 1, 0, 0, 1]),
                num_experts=6,
                block_size=4,
            )
        ],
    }
