"""DeepSeek-V3.2's and GLM-5's lightning indexer: which keys a query attends to."""

from __future__ import annotations

import dataclasses

from jax_aiter.vllm_ops import values
from jax_aiter.vllm_ops.row import Argument, Row, only, renamed, returned, same, to, unneeded

SPARSE = "v1/attention/ops/rocm_aiter_mla_sparse.py"
OWN_OPS = "_custom_ops.py (vLLM's own ops, AITER's twins)"
STRIDES = unneeded("num_rows", "stride0", "stride1", note="logits are dense")


ROWS = (
    Row(
        name="rocm_aiter_sparse_attn_indexer",
        aiter="aiter fp8_mqa_logits, deepgemm_fp8_paged_mqa_logits, top_k_per_row_prefill, top_k_per_row_decode",
        ops=("sparse_attn_indexer", "fp8_paged_mqa_logits"),
        arguments={
            "q_fp8": to("q"),
            "kv_cache": to("kv_cache", note="with the new keys written into it already, by `indexer_k_quant_and_cache`"),
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
        lacks="the write of new keys into the uint8 cache, an op of its own; compressed and candidate blocks; theirs takes "
        "tables and lengths from its metadata, ours as arguments",
        instead=("jax_aiter.indexer_k_quant_and_cache", "jax_aiter.sparse_attn_indexer"),
    ),
    Row(
        name="fp8_mqa_logits",
        aliases=("flydsl_fp8_mqa_logits",),
        where=SPARSE,
        aiter="aiter.ops.triton.attention.fp8_mqa_logits",
        ops=("fp8_mqa_logits",),
        arguments={
            **renamed(Q="q", KV="kv"),
            **same("kv_scales", "weights", "cu_starts", "cu_ends"),
            **only(True, "clean_logits", note="what a token does not see is -inf"),
        },
        results=("logits",),
    ),
    Row(
        name="deepgemm_fp8_paged_mqa_logits",
        aliases=("rocm_fp8_paged_mqa_logits", "fp8_paged_mqa_logits"),
        where=SPARSE,
        aiter="aiter.ops.triton.attention.pa_mqa_logits.deepgemm_fp8_paged_mqa_logits",
        ops=("fp8_paged_mqa_logits",),
        arguments={
            "q_fp8": to("q", note="as [T, H, D]"),
            "kv_cache_fp8": to("kv_cache", note="uint8 [nb, bs, W]"),
            **same("weights"),
            **returned("out_logits"),
            **renamed(context_lens="context_lens", kv_indices="block_tables", Preshuffle="preshuffle"),
            **unneeded("max_model_len", note="the table's width times the block size"),
            **unneeded("KVBlockSize", note="the shapes say it"),
            **unneeded("ChunkK", "TotalCuCount", "WavePerEU", "VarCtxSchedule", note="how a kernel splits the work"),
        },
        results=("out_logits",),
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
        where=OWN_OPS,
        aiter="aiter.indexer_k_quant_and_cache",
        ops=("indexer_k_quant_and_cache",),
        arguments={
            **same("k"),
            "kv_cache": to("kv_cache", note="uint8 [nb, bs, W]"),
            **same("slot_mapping", "quant_block_size", "scale_fmt", "preshuffle"),
        },
        results=("kv_cache",),
    ),
    Row(
        name="cp_gather_indexer_k_quant_cache",
        where=OWN_OPS,
        aiter="aiter.cp_gather_indexer_k_quant_cache",
        ops=("cp_gather_indexer_k_quant_cache",),
        arguments={
            **same("kv_cache"),
            "dst_k": Argument(("total_tokens", "head_dim"), values.rows_and_columns, result=True),
            **returned("dst_scale", note="float32 [N, D / quant_block_size]"),
            **same("block_table", "cu_seq_lens", "preshuffle"),
        },
        results=("dst_k", "dst_scale"),
    ),
    Row(
        name="indexer_qk_rope_quant_and_cache",
        where=OWN_OPS,
        aiter="aiter.indexer_qk_rope_quant_and_cache",
        ops=("indexer_qk_rope_quant_and_cache",),
        arguments={
            **same("q"),
            "q_out": dataclasses.replace(to("quant_dtype", values.dtype_of), result=True),
            **same("weights"),
            **returned("weights_out"),
            **same("k"),
            "kv_cache": to("kv_cache", note="uint8 [nb, bs, W]"),
            **same("slot_mapping", "norm_weight", "norm_bias", "positions"),
            **renamed(cos_cache="cos", sin_cache="sin"),
            **same("epsilon"),
            **unneeded("quant_block_size", note="a key has one scale"),
            **same("scale_fmt", "weights_scale", "preshuffle"),
            "is_neox": to("rotate_style", values.rotate_style),
        },
        results=("q_out", "weights_out", "kv_cache"),
    ),
)
