"""Attention over a paged key/value cache: decode (one query per sequence) and ragged prefill + decode."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

import math

from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import HALF, INT32_MAX, dtype_in, first, param_is
from jax_aiter.kernels.triton.spec import CallSpec

UNIFIED = "attention.unified_attention:unified_attention(sinks)"
DECODE = ("attention.pa_decode:paged_attn_decode_v1", "attention.pa_decode:paged_attn_decode_v2")


def _cache_rules(spec: CallSpec, query: str) -> str | None:
    cache, value = spec["key_cache"], spec["value_cache"]
    block, head = cache.shape[2 if spec.params.get("kv_layout") == "HND" else 1], cache.shape[-1]
    if block < 16 or block & (block - 1):
        return f"key_cache has blocks of {block} tokens; AITER's Triton kernel needs a power of two, at least 16"
    if head < 16 or head > 256 or value.shape[-1] != head:
        return f"head sizes {head} and {value.shape[-1]}; AITER's Triton kernel is used for equal ones, 16 to 256"
    for name in ("k_scale", "v_scale"):
        if spec.has(name) and spec[name].size != 1:
            return f"{name} has shape {spec[name].shape}; AITER's Triton kernel takes one scale for the whole cache"
    return first(
        param_is(spec, "kv_layout", "NHD", "HND", None),
        param_is(spec, "per_token_scales", False, None),
        param_is(spec, "attention_chunk_size", 0, None),
        dtype_in(spec, query, HALF),
        dtype_in(spec, "key_cache", (*HALF, spec.fp8)),
        *(dtype_in(spec, n, ("int32",)) for n in ("block_tables", "context_lens", "cu_seqlens", "cu_seqlens_q")),
    )


def _scalar(value) -> float:
    return float(value) if value else 0.0


def _slopes_and_cap(spec: CallSpec) -> str | None:
    if spec.has("alibi_slopes") and _scalar(spec.params.get("logits_soft_cap")):
        return "alibi_slopes and logits_soft_cap together; AITER's Triton kernel caps before it adds the slopes"
    return None


def _refuse_paged(spec: CallSpec) -> str | None:
    layout = param_is(spec, "kv_layout", "NHD", "HND")
    return layout or first(_cache_rules(spec, "query"), _slopes_and_cap(spec))


def _beyond_32_bits(spec: CallSpec) -> bool:
    """AITER's decode kernels index the cache and their partial results with 32 bits; the unified kernel does not."""
    cache, query, tables = (spec[name] for name in ("key_cache", "query", "block_tables"))
    block = cache.shape[2 if spec.params["kv_layout"] == "HND" else 1]
    partial = query.size * math.ceil(tables.shape[1] * block / 1024)
    return max(cache.size, spec["value_cache"].size, partial) > INT32_MAX


def _needs_unified(spec: CallSpec) -> bool:
    """What AITER's decode kernels do not know."""
    return (
        any(spec.has(name) for name in ("k_scale", "alibi_slopes", "sinks"))
        or spec["key_cache"].dtype not in HALF
        or _scalar(spec.params.get("logits_soft_cap")) > 0
        or bool(spec.params.get("sliding_window"))
        or _beyond_32_bits(spec)
    )


@op(
    "paged_attention",
    source="aiter.ops.triton.attention.pa_decode.paged_attn_decode_v1/v2, unified_attention.unified_attention",
    refuse=_refuse_paged,
    needs=lambda spec: (UNIFIED,) if spec.has("cu_seqlens") or _needs_unified(spec) else DECODE,
)
def paged_attention(ctx):
    from jax_aiter.kernels.triton.worker import glue

    spec, out = ctx.spec, ctx.results[0]
    lengths = _lengths(ctx)
    if spec.has("cu_seqlens"):
        return _ragged(ctx, out, lengths, "query", "cu_seqlens")
    if _needs_unified(spec):
        _unified(ctx, out, lengths, glue.iota(out.shape[0] + 1), 1, "query")
    else:
        _decode(ctx, out, lengths)
    return glue.clear_empty(out, lengths)


def _caches(ctx, layout: str):
    """Keys and values as views of the wanted layout, "NHD" or "HND"."""
    keys, values = ctx.operand("key_cache"), ctx.operand("value_cache")
    if (ctx.spec.params.get("kv_layout") or "NHD") != layout:
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)
    return keys, values


def _lengths(ctx):
    """Context lengths, at most what the block table can hold."""
    from jax_aiter.kernels.triton.worker import glue

    capacity = ctx.operand("block_tables").shape[1] * _caches(ctx, "NHD")[0].shape[1]
    return glue.clip(ctx.operand("context_lens"), capacity)


def _decode(ctx, out, lengths) -> None:
    """AITER's choice between one pass and partitions of 1024 tokens, as its paged_attention_decode makes it."""
    import triton.language as tl
    from aiter.ops.triton.attention import pa_decode

    query, (keys, values), tables = ctx.operand("query"), _caches(ctx, "HND"), ctx.operand("block_tables")
    longest = tables.shape[1] * keys.shape[2]
    compute = tl.bfloat16 if ctx.spec["query"].dtype == "bfloat16" else tl.float16
    arguments = (out, query, keys, values, tables, lengths, longest, compute, keys.shape[1])
    arguments += (ctx.spec.params["scale"], None, 1.0, 1.0)
    partitions = math.ceil(longest / pa_decode._SEQ_PARTITION_SIZE)
    if longest <= 8192 and (partitions == 1 or query.shape[0] * query.shape[1] > 512):
        pa_decode.paged_attn_decode_v1(*arguments)
    else:
        pa_decode.paged_attn_decode_v2(*arguments, partitions)


def _unified(ctx, out, lengths, cu_seqlens, longest_query: int, query: str) -> None:
    from aiter.ops.triton.attention.unified_attention import unified_attention

    params, (keys, values), tables = ctx.spec.params, _caches(ctx, "NHD"), ctx.operand("block_tables")
    window = params.get("sliding_window") or 0
    unified_attention(
        ctx.operand(query),
        keys,
        values,
        out,
        cu_seqlens,
        longest_query,
        lengths,
        tables.shape[1] * keys.shape[1],
        params["scale"],
        True,
        (window - 1, 0) if window else (-1, -1),
        tables,
        _scalar(params.get("logits_soft_cap")),
        None,
        ctx.operand("k_scale"),
        ctx.operand("v_scale"),
        alibi_slopes=ctx.operand("alibi_slopes"),
        sinks=ctx.operand("sinks"),
    )


def _ragged(ctx, out, lengths, query: str, bounds: str):
    from jax_aiter.kernels.triton.worker import glue

    # The longest query is data; more than one token means the kernel must not take a batch for pure decode.
    cu_seqlens, tokens = ctx.operand(bounds), ctx.operand(query).shape[0]
    _unified(ctx, out, lengths, cu_seqlens, max(tokens, 2), query)
    return glue.clear_tail(out, cu_seqlens)


@op(
    "unified_attention",
    source="aiter.ops.triton.attention.unified_attention.unified_attention",
    needs=(UNIFIED,),
    refuse=lambda spec: first(param_is(spec, "causal", True), _cache_rules(spec, "q"), _slopes_and_cap(spec)),
)
def unified_attention(ctx):
    return _ragged(ctx, ctx.results[0], _lengths(ctx), "q", "cu_seqlens_q")
