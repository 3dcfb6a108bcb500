"""Attention over a paged key/value cache: decode (one query per sequence) and ragged prefill + decode."""

from __future__ import annotations

import math

from jax_aiter.kernels.triton.ops import op
from jax_aiter.kernels.triton.ops.rules import HALF, absent, dtype_in, first, nonempty, param_is
from jax_aiter.kernels.triton.spec import CallSpec


def _cache_rules(spec: CallSpec, layout: str | None) -> str | None:
    cache = spec["key_cache"]
    block = cache.shape[2 if layout == "HND" else 1]
    head = cache.shape[-1]
    if block < 16 or block & (block - 1):
        return f"key_cache has blocks of {block} tokens; AITER's Triton kernel needs a power of two, at least 16"
    if head < 16 or head > 256:
        return f"head size = {head}; AITER's Triton kernel is used for 16 to 256"
    for name in ("k_scale", "v_scale"):
        if spec.has(name) and spec[name].size != 1:
            return f"{name} has shape {spec[name].shape}; AITER's Triton kernel takes one scale for the whole cache"
    if spec.has("k_scale") != spec.has("v_scale"):
        return "k_scale and v_scale: AITER's Triton kernel needs both or neither"
    return None


def _refuse_paged(spec: CallSpec) -> str | None:
    layout = spec.params.get("kv_layout")
    return first(
        param_is(spec, "kv_layout", "NHD", "HND"),
        nonempty(spec),
        absent(spec, "cu_seqlens"),
        dtype_in(spec, "query", HALF),
        dtype_in(spec, "key_cache", (*HALF, spec.fp8)),
        dtype_in(spec, "block_tables", ("int32",)),
        dtype_in(spec, "context_lens", ("int32",)),
        None if spec["query"].ndim == 3 else f"query has shape {spec['query'].shape}; expected [B, Hq, Dh]",
        _cache_rules(spec, layout),
    )


def _scalar(value) -> float:
    return float(value) if value else 0.0


@op(
    "paged_attention",
    source="aiter.ops.triton.attention.pa_decode.paged_attn_decode_v1/v2, unified_attention.unified_attention",
    refuse=_refuse_paged,
)
def paged_attention(ctx):
    from jax_aiter.kernels.triton.worker import glue

    spec, out = ctx.spec, ctx.results[0]
    needs_unified = (
        spec.has("k_scale")
        or spec.has("alibi_slopes")
        or spec["key_cache"].dtype not in HALF
        or _scalar(spec.params.get("logits_soft_cap")) > 0
        or spec.params.get("sliding_window") is not None
    )
    if needs_unified:
        _unified(ctx, out, glue.iota(out.shape[0] + 1), 1, "query", "logits_soft_cap")
    else:
        _decode(ctx, out)
    return glue.clear_empty(out, ctx.operand("context_lens"))


def _decode(ctx, out) -> None:
    """AITER's choice between one pass and partitions of 1024 tokens, as its paged_attention_decode makes it."""
    import triton.language as tl
    from aiter.ops.triton.attention import pa_decode

    query, keys, values = (ctx.operand(name) for name in ("query", "key_cache", "value_cache"))
    if ctx.spec.params["kv_layout"] == "NHD":
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)
    tables = ctx.operand("block_tables")
    longest = tables.shape[1] * keys.shape[2]
    compute = tl.bfloat16 if ctx.spec["query"].dtype == "bfloat16" else tl.float16
    arguments = (out, query, keys, values, tables, ctx.operand("context_lens"), longest, compute, keys.shape[1])
    arguments += (ctx.spec.params["scale"], None, 1.0, 1.0)
    partitions = math.ceil(longest / pa_decode._SEQ_PARTITION_SIZE)
    if longest <= 8192 and (partitions == 1 or query.shape[0] * query.shape[1] > 512):
        pa_decode.paged_attn_decode_v1(*arguments)
    else:
        pa_decode.paged_attn_decode_v2(*arguments, partitions)


def _unified(ctx, out, cu_seqlens, longest_query: int, query: str, soft_cap: str) -> None:
    from aiter.ops.triton.attention.unified_attention import unified_attention

    params = ctx.spec.params
    keys, values = ctx.operand("key_cache"), ctx.operand("value_cache")
    if params.get("kv_layout") == "HND":
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)
    tables, window = ctx.operand("block_tables"), params.get("sliding_window")
    unified_attention(
        ctx.operand(query),
        keys,
        values,
        out,
        cu_seqlens,
        longest_query,
        ctx.operand("context_lens"),
        tables.shape[1] * keys.shape[1],
        params["scale"],
        True,
        (-1, -1) if window is None else (window - 1, 0),
        tables,
        _scalar(params.get(soft_cap)),
        None,
        ctx.operand("k_scale"),
        ctx.operand("v_scale"),
        alibi_slopes=ctx.operand("alibi_slopes"),
        sinks=ctx.operand("sinks"),
    )


def _refuse_unified(spec: CallSpec) -> str | None:
    return first(
        nonempty(spec),
        param_is(spec, "causal", True),
        param_is(spec, "kv_layout", "NHD", "HND", None),
        dtype_in(spec, "q", HALF),
        dtype_in(spec, "key_cache", (*HALF, spec.fp8)),
        *(dtype_in(spec, name, ("int32",)) for name in ("cu_seqlens_q", "context_lens", "block_tables")),
        _cache_rules(spec, spec.params.get("kv_layout")),
    )


@op(
    "unified_attention",
    source="aiter.ops.triton.attention.unified_attention.unified_attention",
    refuse=_refuse_unified,
)
def unified_attention(ctx):
    out, tokens = ctx.results[0], ctx.spec["q"].shape[0]
    out.zero_()  # tokens past the last sequence are written by no program
    # The longest query is data; more than one token means the kernel must not take a batch for pure decode.
    _unified(ctx, out, ctx.operand("cu_seqlens_q"), max(tokens, 2), "q", "soft_cap")
    return out
