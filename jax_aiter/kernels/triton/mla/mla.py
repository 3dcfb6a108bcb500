"""Multi-head latent attention over a paged latent cache (DeepSeek)."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import HALF, INT32_MAX, absent, dtype_in, first, param_is

#: tokens of a page that makes a matrix tile.
LEAST_PAGE = 16
TABLES = "attention.mla_decode:csr_to_dense_block_table"
TILED, BY_TOKEN = "attention.mla:mla_decode_fwd(skip_reduce)", "attention.mla_decode:decode_attention_fwd"


def _refuse(spec: CallSpec) -> str | None:
    tokens, sequences = spec["q"].shape[0], spec["kv_last_page_lens"].shape[0]
    longest, page = spec.params.get("max_seqlen_qo"), spec["kv_buffer"].shape[1]
    rule = None
    if longest != 1 or tokens != sequences:
        rule = f"max_seqlen_qo = {longest}, {tokens} tokens, {sequences} sequences; recorded for one query token each"
    if page & (page - 1):
        rule = rule or f"kv_buffer has pages of {page} tokens; AITER's Triton kernel needs a power of two"
    if page < 16 and spec["kv_buffer"].size > INT32_MAX:
        rule = rule or f"kv_buffer has {spec['kv_buffer'].size} elements in pages of {page}; AITER's kernel indexes with 32 bits"
    return first(
        param_is(spec, "causal", True),
        # AITER's Triton kernel takes tanh as 2 * sigmoid - 1 of a 16-bit score: off by up to cap * 2^-8.
        param_is(spec, "logit_cap", 0.0, 0, None),
        param_is(spec, "v_head_dim", 512, None),
        absent(spec, "q_scale"),
        dtype_in(spec, "q", HALF),
        dtype_in(spec, "kv_buffer", (*HALF, spec.fp8)),
        *(dtype_in(spec, name, ("int32",)) for name in ("kv_indptr", "kv_indices", "kv_last_page_lens")),
        rule,
    )


@op(
    "mla_decode_fwd",
    source="aiter.ops.triton.attention.mla_decode.decode_attention_fwd, mla.mla_decode_fwd, csr_to_dense_block_table",
    needs=lambda spec: (TABLES, TILED if spec["kv_buffer"].shape[1] >= LEAST_PAGE else BY_TOKEN),
    refuse=_refuse,
)
def mla_decode_fwd(ctx):
    import torch
    from aiter.ops.triton.attention.mla_decode import csr_to_dense_block_table

    from jax_aiter.kernels.triton.worker import glue

    q, cache = ctx.operand("q"), ctx.operand("kv_buffer")
    sequences, page = q.shape[0], cache.shape[1]
    # A sequence can hold every listed page.
    pages = ctx.operand("kv_indices").shape[0]
    lengths = glue.sequence_lengths(ctx.operand("kv_indptr"), ctx.operand("kv_last_page_lens"), page)
    tables = torch.empty((sequences, pages), dtype=torch.int32, device="meta")
    csr_to_dense_block_table(ctx.operand("kv_indices"), ctx.operand("kv_indptr"), tables, pages, sequences)
    if page >= LEAST_PAGE:
        return _tiled(ctx, tables, lengths)
    return _token_by_token(ctx, tables, lengths)


def _tiled(ctx, tables, lengths):
    """Matrix units, one page per tile; the partial results are joined by a kernel of ours that also gives the lse."""
    from aiter.ops.triton.attention.mla import mla_decode_fwd as kernel

    from jax_aiter.kernels.triton.worker import glue

    q, cache, (out, lse) = ctx.operand("q"), ctx.operand("kv_buffer"), ctx.results
    rank, page = out.shape[-1], cache.shape[1]
    bounds = glue.iota(q.shape[0] + 1)
    shape = (rank, q.shape[-1] - rank)
    longest, scale = tables.shape[1] * page, ctx.spec.params["sm_scale"]
    parts, tops, sums = kernel(
        q, cache, out, bounds, lengths, longest, tables, scale, *shape, True, None, ctx.operand("kv_scale"), skip_reduce=True
    )
    glue.join_segments(parts, tops, sums, lengths, out, lse, page)
    return out, lse


def _token_by_token(ctx, tables, lengths):
    """Pages too small for a matrix tile: AITER's split-key kernel with elementwise products."""
    import torch
    from aiter.ops.triton.attention.mla_decode import decode_attention_fwd

    from jax_aiter.kernels.triton.worker import glue

    q, cache, (out, lse) = ctx.operand("q"), ctx.operand("kv_buffer"), ctx.results
    sequences, heads, rank = out.shape
    splits, page = 8, cache.shape[1]
    logits = torch.empty((sequences, heads, splits, rank + 1), dtype=torch.float32, device="meta")
    kv_scale = ctx.operand("kv_scale")
    if kv_scale is None:
        kv_scale = torch.ones((1,), dtype=torch.float32, device="meta")
    # Strides are per token: [pages, page, 1, D] seen as [pages * page, 1, D].
    tokens = cache.view(-1, 1, cache.shape[-1])
    values, scale = tokens[..., :rank], ctx.spec.params["sm_scale"]
    arguments = (tables, lengths, logits, splits, scale, page, 0.0, kv_scale, kv_scale)
    decode_attention_fwd(q, tokens, values, out, lse, *arguments)
    return glue.clear_empty(out, lengths), glue.empty_lse(lse, lengths)
