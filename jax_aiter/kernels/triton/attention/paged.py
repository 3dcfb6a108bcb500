"""Attention over a paged key/value cache: decode (one query per sequence) and ragged prefill + decode."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

import math

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import HALF, INT32_MAX, dtype_in, first, param_is

UNIFIED = "attention.unified_attention:unified_attention(sinks)"
DECODE = ("attention.pa_decode:paged_attn_decode_v1", "attention.pa_decode:paged_attn_decode_v2")


SHUFFLED = "attention.unified_attention:unified_attention(shuffled_kv_cache)"


def _layout(spec: CallSpec) -> str:
    return spec.params.get("kv_layout") or "NHD"


def _block(spec: CallSpec) -> int:
    return spec["key_cache"].shape[{"NHD": 1, "HND": 2, "asm": 3}[_layout(spec)]]


def _unified_needs(spec: CallSpec) -> tuple[str, ...]:
    return (UNIFIED, SHUFFLED) if _layout(spec) == "asm" else (UNIFIED,)


def _cache_rules(spec: CallSpec, query: str) -> str | None:
    if rule := param_is(spec, "kv_layout", "NHD", "HND", "asm", None):
        return rule
    block, head, value = _block(spec), spec[query].shape[-1], spec.results[0].shape[-1]
    if _layout(spec) == "asm" and (head & (head - 1) or block > 128):
        return (
            f"kv_layout = 'asm' with head size {head} and blocks of {block}; AITER's Triton kernel has powers of two, blocks to 128"
        )
    if block < 16 or block & (block - 1):
        return f"key_cache has blocks of {block} tokens; AITER's Triton kernel needs a power of two, at least 16"
    if head < 16 or head > 256 or value != head:
        return f"head sizes {head} and {value}; AITER's Triton kernel is used for equal ones, 16 to 256"
    chunk = spec.params.get("attention_chunk_size") or 0
    if chunk % block:
        return f"attention_chunk_size = {chunk}; here a chunk's table is part of the sequence's: a multiple of the block, {block}"
    for name in ("k_scale", "v_scale"):
        if spec.has(name) and spec[name].size != 1:
            return f"{name} has shape {spec[name].shape}; AITER's Triton kernel takes one scale for the whole cache"
    return first(
        param_is(spec, "per_token_scales", False, None),
        dtype_in(spec, query, HALF),
        dtype_in(spec, "key_cache", (*HALF, spec.fp8)),
        *(dtype_in(spec, n, ("int32",)) for n in ("block_tables", "context_lens", "cu_seqlens", "cu_seqlens_q")),
    )


def _scalar(value) -> float:
    return float(value) if value else 0.0


def _slopes_rule(spec: CallSpec, anchored: bool) -> str | None:
    """anchored: the kernel measures slopes from where the op does; a shift of all scores shows only beside a sink."""
    if spec.has("alibi_slopes") and _scalar(spec.params.get("logits_soft_cap")):
        return "alibi_slopes and logits_soft_cap together; AITER's Triton kernel caps before it adds the slopes"
    if spec.has("alibi_slopes") and spec.has("sinks") and not anchored:
        return "alibi_slopes and sinks of packed queries; AITER's Triton kernel measures slopes from the first query (of a chunk)"
    return None


def _refuse_paged(spec: CallSpec) -> str | None:
    return first(_cache_rules(spec, "query"), _slopes_rule(spec, not spec.has("cu_seqlens")))


def _beyond_32_bits(spec: CallSpec) -> bool:
    """AITER's decode kernels index the cache and their partial results with 32 bits; the unified kernel does not."""
    cache, query, tables = (spec[name] for name in ("key_cache", "query", "block_tables"))
    partial = query.size * math.ceil(tables.shape[1] * _block(spec) / 1024)
    return max(cache.size, spec["value_cache"].size, partial) > INT32_MAX


def _needs_unified(spec: CallSpec) -> bool:
    """What AITER's decode kernels do not know."""
    return (
        any(spec.has(name) for name in ("k_scale", "alibi_slopes", "sinks"))
        or spec["key_cache"].dtype not in HALF
        or _layout(spec) == "asm"
        or _scalar(spec.params.get("logits_soft_cap")) > 0
        or bool(spec.params.get("sliding_window"))
        or _beyond_32_bits(spec)
    )


@op(
    "paged_attention",
    source="aiter.ops.triton.attention.pa_decode.paged_attn_decode_v1/v2, unified_attention.unified_attention",
    refuse=_refuse_paged,
    needs=lambda spec: _unified_needs(spec) if spec.has("cu_seqlens") or _needs_unified(spec) else DECODE,
)
def paged_attention(ctx):
    from jax_aiter.kernels.triton.worker import glue

    spec, out = ctx.spec, ctx.results[0]
    if spec.has("cu_seqlens"):
        return _ragged(ctx, out, "query", "cu_seqlens")
    bounds, lengths, tables = _sequences(ctx, None, 1)
    if _needs_unified(spec):
        _unified(ctx, out, bounds, lengths, tables, 1, "query")
    else:
        _decode(ctx, out, lengths, tables)
    return glue.clear_empty(out, lengths)


def _caches(ctx, layout: str):
    """Keys and values as views of the wanted layout, "NHD" or "HND"; those of "asm" as they are."""
    keys, values = ctx.operand("key_cache"), ctx.operand("value_cache")
    if _layout(ctx.spec) not in (layout, "asm"):
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)
    return keys, values


def _sequences(ctx, bounds, longest: int):
    """(bounds of the queries, lengths, tables): the caller's, lengths at most what its table can hold, or by chunk one of each.

    bounds: None where each sequence has one query; they stay so where nothing asks for them.
    """
    from jax_aiter.kernels.triton.worker import glue, glue_chunks

    tables, block = ctx.operand("block_tables"), _block(ctx.spec)
    lengths = glue.clip(ctx.operand("context_lens"), tables.shape[1] * block)
    chunk = ctx.spec.params.get("attention_chunk_size") or 0
    split = chunk and chunk < tables.shape[1] * block
    if bounds is None and (split or _needs_unified(ctx.spec)):
        bounds = glue.iota(tables.shape[0] + 1)
    if split:
        assert bounds is not None
        return glue_chunks.local_sequences(bounds, lengths, tables, block, chunk, longest)
    return bounds, lengths, tables


def _decode(ctx, out, lengths, tables) -> None:
    """AITER's choice between one pass and partitions of 1024 tokens, as its paged_attention_decode makes it."""
    import triton.language as tl
    from aiter.ops.triton.attention import pa_decode

    query, (keys, values) = ctx.operand("query"), _caches(ctx, "HND")
    longest = tables.shape[1] * keys.shape[2]
    compute = tl.bfloat16 if ctx.spec["query"].dtype == "bfloat16" else tl.float16
    arguments = (out, query, keys, values, tables, lengths, longest, compute, keys.shape[1])
    arguments += (ctx.spec.params["scale"], None, 1.0, 1.0)
    partitions = math.ceil(longest / pa_decode._SEQ_PARTITION_SIZE)
    if longest <= 8192 and (partitions == 1 or query.shape[0] * query.shape[1] > 512):
        pa_decode.paged_attn_decode_v1(*arguments)
    else:
        pa_decode.paged_attn_decode_v2(*arguments, partitions)


def _unified(ctx, out, cu_seqlens, lengths, tables, longest_query: int, query: str) -> None:
    from aiter.ops.triton.attention.unified_attention import unified_attention

    params, (keys, values) = ctx.spec.params, _caches(ctx, "NHD")
    window = params.get("sliding_window") or 0
    unified_attention(
        ctx.operand(query),
        keys,
        values,
        out,
        cu_seqlens,
        longest_query,
        lengths,
        tables.shape[1] * _block(ctx.spec),
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
        **({"shuffled_kv_cache": True} if _layout(ctx.spec) == "asm" else {}),
    )


def _ragged(ctx, out, query: str, bounds: str):
    from jax_aiter.kernels.triton.worker import glue

    # The longest query is data; more than one token means the kernel must not take a batch for pure decode.
    cu_seqlens, longest = ctx.operand(bounds), max(ctx.operand(query).shape[0], 2)
    local, lengths, tables = _sequences(ctx, cu_seqlens, longest)
    _unified(ctx, out, local, lengths, tables, longest, query)
    return glue.clear_tail(out, cu_seqlens)


def _refuse_unified(spec: CallSpec) -> str | None:
    anchored = not spec.params.get("attention_chunk_size")
    return first(param_is(spec, "causal", True), _cache_rules(spec, "q"), _slopes_rule(spec, anchored))


@op(
    "unified_attention",
    source="aiter.ops.triton.attention.unified_attention.unified_attention",
    needs=_unified_needs,
    refuse=_refuse_unified,
)
def unified_attention(ctx):
    return _ragged(ctx, ctx.results[0], "q", "cu_seqlens_q")
