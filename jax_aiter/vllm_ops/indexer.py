"""DeepSeek-V3.2's and GLM-5's lightning indexer: which keys a query attends to."""

from __future__ import annotations

from jax_aiter.vllm_ops.row import Row, only, renamed, returned, same, to, unneeded

SPARSE = "v1/attention/ops/rocm_aiter_mla_sparse.py"
STRIDES = unneeded("num_rows", "stride0", "stride1", note="logits are dense")

ROWS = (
    Row(
        name="rocm_aiter_sparse_attn_indexer",
        aiter="aiter fp8_mqa_logits, deepgemm_fp8_paged_mqa_logits, top_k_per_row_prefill, top_k_per_row_decode",
        ops=("sparse_attn_indexer", "fp8_paged_mqa_logits"),
        arguments={
            "q_fp8": to("q"),
            "kv_cache": to("kv_cache", note="with the new keys written into it already, not preshuffled"),
            **same("weights"),
            **renamed(topk_tokens="topk"),
            **returned("topk_indices_buffer"),
            **unneeded("hidden_states", "max_model_len", "total_seq_lens", note="the shapes say it"),
            **only(None, "candidate_blocks"),
            **only((None, 1), "compress_ratio"),
            "block_tables": to("block_tables", note="from the attention metadata"),
            "context_lens": to("context_lens", note="from the attention metadata"),
            "cu_seqlens_q": to("cu_seqlens_q", note="from the attention metadata"),
        },
        results=("topk_indices_buffer",),
        lacks="the write of new keys into the uint8 cache, compressed and candidate blocks; theirs takes tables and lengths from "
        "its metadata, ours as arguments",
        instead=("jax_aiter.group_quant", "jax.lax.bitcast_convert_type", "jax_aiter.sparse_attn_indexer"),
    ),
    Row(
        name="fp8_mqa_logits",
        aliases=("flydsl_fp8_mqa_logits",),
        where=SPARSE,
        aiter="aiter.ops.triton.attention.fp8_mqa_logits",
        lacks="no op takes packed keys: a plain product in float32, relu and a sum over heads do, or the paged form",
        instead=("jax_aiter.fp8_paged_mqa_logits", "jax.numpy.einsum", "jax.nn.relu"),
    ),
    Row(
        name="deepgemm_fp8_paged_mqa_logits",
        aliases=("rocm_fp8_paged_mqa_logits", "fp8_paged_mqa_logits"),
        where=SPARSE,
        aiter="aiter.ops.triton.attention.pa_mqa_logits.deepgemm_fp8_paged_mqa_logits",
        ops=("fp8_paged_mqa_logits",),
        arguments={
            "q_fp8": to("q", note="as [T, H, D]"),
            "kv_cache_fp8": to("kv_cache", note="uint8 [blocks, S, W], not preshuffled"),
            **same("weights"),
            **returned("out_logits"),
            **renamed(context_lens="context_lens", kv_indices="block_tables"),
            **unneeded("max_model_len", note="the table's width times the block size"),
        },
        results=("out_logits",),
        lacks="the preshuffled cache",
        instead=("jax_aiter.fp8_paged_mqa_logits",),
    ),
    Row(
        name="top_k_per_row_prefill",
        where=SPARSE,
        aiter="aiter.top_k_per_row_prefill",
        ops=("top_k_per_row_prefill",),
        arguments={
            **renamed(logits="logits", rowStarts="row_starts", rowEnds="row_ends"),
            **returned("indices", "values", note="the columns are returned, not the values"),
            **STRIDES,
            **same("k"),
        },
        results=("indices",),
    ),
    Row(
        name="top_k_per_row_decode",
        where=SPARSE,
        aiter="aiter.top_k_per_row_decode",
        ops=("top_k_per_row_decode",),
        arguments={
            **renamed(logits="logits", next_n="next_n", seqLens="seq_lens"),
            **returned("indices"),
            **STRIDES,
            **same("k"),
        },
        results=("indices",),
    ),
    Row(
        name="pa_sparse_prefill_opus",
        where=SPARSE,
        aiter="aiter.pa_sparse_prefill_opus",
        lacks="sparse prefill of DeepSeek-V4 has no op; over a latent cache the chosen tokens are a ragged page list of each query",
        instead=("jax_aiter.mla_decode_fwd",),
    ),
    Row(
        name="indexer_k_quant_and_cache",
        aliases=("cp_gather_indexer_k_quant_cache", "indexer_qk_rope_quant_and_cache"),
        where="_custom_ops.py (vLLM's own ops, AITER's twins)",
        aiter="aiter.indexer_k_quant_and_cache, cp_gather_indexer_k_quant_cache, indexer_qk_rope_quant_and_cache",
        lacks="no op writes or gathers the indexer's cache of keys beside their scales: quantise, view as bytes, scatter",
        instead=("jax_aiter.group_quant", "jax.lax.bitcast_convert_type", "jax.numpy.take"),
    ),
)
