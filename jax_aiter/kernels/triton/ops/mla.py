"""Multi-head latent attention over a paged latent cache (DeepSeek)."""

from __future__ import annotations

from jax_aiter.kernels.triton.ops import op
from jax_aiter.kernels.triton.ops.rules import HALF, absent, dtype_in, first, nonempty, param_is
from jax_aiter.kernels.triton.spec import CallSpec


def _refuse(spec: CallSpec) -> str | None:
    tokens, sequences = spec["q"].shape[0], spec["kv_last_page_lens"].shape[0]
    longest, page = spec.params.get("max_seqlen_qo"), spec["kv_buffer"].shape[1]
    rule = None
    if longest != 1 or tokens != sequences:
        rule = f"max_seqlen_qo = {longest}, {tokens} tokens, {sequences} sequences; recorded for one query token each"
    if page & (page - 1):
        rule = rule or f"kv_buffer has pages of {page} tokens; AITER's Triton kernel needs a power of two"
    return first(
        nonempty(spec),
        param_is(spec, "causal", True),
        param_is(spec, "return_lse", False, None),
        absent(spec, "q_scale"),
        dtype_in(spec, "q", HALF),
        dtype_in(spec, "kv_buffer", (*HALF, spec.fp8)),
        *(dtype_in(spec, name, ("int32",)) for name in ("kv_indptr", "kv_indices", "kv_last_page_lens")),
        None if spec["kv_buffer"].dtype in HALF or spec.has("kv_scale") else "an fp8 kv_buffer needs kv_scale",
        rule,
    )


@op(
    "mla_decode_fwd",
    source="aiter.ops.triton.attention.mla_decode.decode_attention_fwd, mla.mla_decode_fwd, csr_to_dense_block_table",
    refuse=_refuse,
)
def mla_decode_fwd(ctx):
    import torch
    from aiter.ops.triton.attention.mla_decode import csr_to_dense_block_table

    from jax_aiter.kernels.triton.worker import glue

    q, cache, out = ctx.operand("q"), ctx.operand("kv_buffer"), ctx.results[0]
    sequences, page = q.shape[0], cache.shape[1]
    lengths = glue.sequence_lengths(ctx.operand("kv_indptr"), ctx.operand("kv_last_page_lens"), page)
    # A sequence can hold every listed page.
    pages = min(ctx.operand("kv_indices").shape[0], cache.shape[0])
    tables = torch.empty((sequences, pages), dtype=torch.int32, device="meta")
    csr_to_dense_block_table(ctx.operand("kv_indices"), ctx.operand("kv_indptr"), tables, pages, sequences)
    scale, soft_cap = ctx.spec.params["sm_scale"], float(ctx.spec.params.get("logit_cap") or 0.0)
    if page >= 16 and soft_cap == 0:
        _tiled(ctx, out, tables, lengths, scale)
    else:
        _token_by_token(ctx, out, tables, lengths, scale, soft_cap)
    return glue.clear_empty(out, lengths)


def _tiled(ctx, out, tables, lengths, scale: float) -> None:
    """Matrix units, one page per tile."""
    from aiter.ops.triton.attention.mla import mla_decode_fwd as kernel

    from jax_aiter.kernels.triton.worker import glue

    q, cache = ctx.operand("q"), ctx.operand("kv_buffer")
    rank, page = out.shape[-1], cache.shape[1]
    kernel(
        q,
        cache,
        out,
        glue.iota(q.shape[0] + 1),
        lengths,
        tables.shape[1] * page,
        tables,
        scale,
        rank,
        q.shape[-1] - rank,
        True,
        None,
        ctx.operand("kv_scale"),
    )


def _token_by_token(ctx, out, tables, lengths, scale: float, soft_cap: float) -> None:
    """Pages too small for a matrix tile: AITER's split-K kernel with elementwise products."""
    import torch
    from aiter.ops.triton.attention.mla_decode import decode_attention_fwd

    q, cache = ctx.operand("q"), ctx.operand("kv_buffer")
    sequences, heads, rank = out.shape
    splits = 8
    logits = torch.empty((sequences, heads, splits, rank + 1), dtype=torch.float32, device="meta")
    lse = torch.empty((sequences, heads), dtype=torch.float32, device="meta")
    kv_scale = ctx.operand("kv_scale")
    if kv_scale is None:
        kv_scale = torch.ones((1,), dtype=torch.float32, device="meta")
    page = cache.shape[1]
    # Strides are per token: [pages, page, 1, D] seen as [pages * page, 1, D].
    tokens = cache.view(-1, 1, cache.shape[-1])
    decode_attention_fwd(
        q, tokens, tokens[..., :rank], out, lse, tables, lengths, logits, splits, scale, page, soft_cap, kv_scale, kv_scale
    )
