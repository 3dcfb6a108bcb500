"""Attention over a paged key/value cache: decode (one query per sequence) and ragged prefill + decode."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

import math

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.attention import paged_tiles
from jax_aiter.kernels.triton.rules import HALF, INT32_MAX, dtype_in, first, param_is

UNIFIED = "attention.unified_attention:unified_attention(sinks)"
DECODE = ("attention.pa_decode:paged_attn_decode_v1", "attention.pa_decode:paged_attn_decode_v2")


FP8_QUERY = "attention.unified_attention:unified_attention(q_scales)"  # before, it asserts that there is no q_descale
SHUFFLED = "attention.unified_attention:unified_attention(shuffled_kv_cache)"


def _layout(spec: CallSpec) -> str:
    return spec.params.get("kv_layout") or "NHD"


def _block(spec: CallSpec) -> int:
    return spec["key_cache"].shape[{"NHD": 1, "HND": 2, "asm": 3}[_layout(spec)]]


def _kv_heads(spec: CallSpec) -> int:
    return spec["key_cache"].shape[{"NHD": 2, "HND": 1, "asm": 1}[_layout(spec)]]


def _unified_needs(spec: CallSpec) -> tuple[str, ...]:
    fp8 = (FP8_QUERY,) if spec.has("q_descale") or spec["query" if spec.has("query") else "q"].dtype == spec.fp8 else ()
    # Wrappers that do not know the shuffled layout yet divide by output_scale on the device, between launches.
    shuffled = _layout(spec) == "asm" or spec.has("output_scale")
    return (UNIFIED, *((SHUFFLED,) if shuffled else ()), *fp8)


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
        dtype_in(spec, query, (*HALF, spec.fp8) if query == "q" else HALF),
        dtype_in(spec, "key_cache", (*HALF, spec.fp8)),
        _fp8_rule(spec, query),
        *(dtype_in(spec, n, ("int32",)) for n in ("block_tables", "context_lens", "cu_seqlens", "cu_seqlens_q")),
    )


def _fp8_rule(spec: CallSpec, query: str) -> str | None:
    if spec[query].dtype == spec.fp8 and _layout(spec) == "asm" and _block(spec) < 32:
        return f"fp8 queries over kv_layout 'asm' with blocks of {_block(spec)}; AITER's Triton kernel has 32 and more"
    out = spec.results[0].dtype
    if out not in (*HALF, spec.fp8):
        return f"output_dtype = {out}; AITER's Triton kernel is used for bfloat16, float16 and {spec.fp8}"
    return None


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
    needs=lambda spec: _unified_needs(spec) if spec.has("cu_seqlens") or _takes_unified(spec) else DECODE,
    space=lambda spec: paged_tiles.ragged(spec) if spec.has("cu_seqlens") else paged_tiles.decode(spec, not _needs_unified(spec)),
)
def paged_attention(ctx):
    from jax_aiter.kernels.triton.worker.own import glue

    spec, out = ctx.spec, ctx.results[0]
    if spec.has("cu_seqlens"):
        return _ragged(ctx, out, "query", "cu_seqlens")
    bounds, lengths, tables = _sequences(ctx, None, 1)
    if _takes_unified(spec):
        _unified(ctx, out, bounds, lengths, tables, 1, "query")
    else:
        _decode(ctx, out, lengths, tables)
    return glue.clear_empty(out, lengths)


def _takes_unified(spec: CallSpec) -> bool:
    """Of one query per sequence: whether the unified kernel runs it, because no other knows it or because the tile says so."""
    return _needs_unified(spec) or spec.tile.get("KERNEL") in paged_tiles.UNIFIED


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
    from jax_aiter.kernels.triton.worker.own import glue, glue_chunks

    tables, block = ctx.operand("block_tables"), _block(ctx.spec)
    given, capacity = ctx.operand("context_lens"), tables.shape[1] * block
    chunk = ctx.spec.params.get("attention_chunk_size") or 0
    split = chunk and chunk < capacity
    if bounds is None and (split or _takes_unified(ctx.spec)):
        bounds, lengths = glue_chunks.single_queries(given, capacity)
    else:
        lengths = glue.clip(given, capacity)
    if split:
        assert bounds is not None
        return glue_chunks.local_sequences(bounds, lengths, tables, block, chunk, longest)
    return bounds, lengths, tables


def _decode(ctx, out, lengths, tables) -> None:
    """AITER's choice between one pass and partitions of 1024 tokens, as its paged_attention_decode makes it, unless a tile says."""
    import triton.language as tl
    from aiter.ops.triton.attention import pa_decode

    from jax_aiter.kernels.triton.worker import altered

    query, (keys, values) = ctx.operand("query"), _caches(ctx, "HND")
    longest = tables.shape[1] * keys.shape[2]
    compute = tl.bfloat16 if ctx.spec["query"].dtype == "bfloat16" else tl.float16
    arguments = (out, query, keys, values, tables, lengths, longest, compute, keys.shape[1])
    arguments += (ctx.spec.params["scale"], None, 1.0, 1.0)
    size = pa_decode._SEQ_PARTITION_SIZE
    whole = longest <= 8192 and (longest <= size or query.shape[0] * query.shape[1] > 512)
    config = ctx.tiled({"KERNEL": "v1" if whole else "v2", **({} if whole else {"SEQ_PARTITION_SZ": size}), "num_warps": 4})
    size, kernel = config.get("SEQ_PARTITION_SZ", size), f"_paged_attn_decode_{config['KERNEL']}"
    names = f"{kernel}_w_dot_kernel", f"{kernel}_wo_dot_kernel"
    with altered.members(pa_decode, _SEQ_PARTITION_SIZE=size), altered.launches(lambda own: {**own, **config}, *names):
        if config["KERNEL"] == "v1":
            pa_decode.paged_attn_decode_v1(*arguments)
        else:
            pa_decode.paged_attn_decode_v2(*arguments, math.ceil(longest / size))


def _masking(spec: CallSpec, config: dict) -> dict:
    """The unified kernel's configuration with a tile of keys that is no block of the cache, for which it masks nothing: what stands
    behind a sequence's last key would reach its output, zero times NaN. Half a block, or two where halves are too small for it.
    """
    block = _block(spec)
    if config["TILE_SIZE"] != block or not paged_tiles.has_other_tiles(spec):
        return config
    return {**config, "TILE_SIZE": block // 2 if block >= 32 else 2 * block}


def _choices(ctx, module, group: int) -> dict:
    """What the unified wrapper's module chooses with, for a call of `group` queries per key."""
    flat, split = module.select_2d_config, module.select_3d_config
    kernel, whole = ctx.spec.tile.get("KERNEL"), module.use_2d_kernel

    def select_2d(*of, **by):
        config = ctx.tiled({"KERNEL": "2d", **_masking(ctx.spec, flat(*of, **by))})
        return {**{n: v for n, v in config.items() if n != "KERNEL"}, "BLOCK_Q": config["BLOCK_M"] // group}

    def select_3d(*of, **by):
        attend, reduce = split(*of, **by)
        config = ctx.tiled({"KERNEL": "3d", **_masking(ctx.spec, attend)})
        del config["KERNEL"]
        shared = {name: config[name] for name in ("TILE_SIZE", "NUM_SEGMENTS_PER_SEQ")}
        return config, ctx.tiled({**reduce, **shared}, "reduce")

    use = whole if kernel is None else lambda *of, **by: kernel == "2d"
    return {"use_2d_kernel": use, "select_2d_config": select_2d, "select_3d_config": select_3d}


def _unified(ctx, out, cu_seqlens, lengths, tables, longest_query: int, query: str) -> None:
    from aiter.ops.triton.attention import unified_attention as module

    from jax_aiter.kernels.triton.worker import altered

    params, (keys, values) = ctx.spec.params, _caches(ctx, "NHD")
    window = params.get("sliding_window") or 0
    group = ctx.spec[query].shape[1] // _kv_heads(ctx.spec)
    with altered.members(module, **_choices(ctx, module, group)):
        module.unified_attention(
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
            ctx.operand("q_descale"),
            ctx.operand("k_scale"),
            ctx.operand("v_scale"),
            alibi_slopes=ctx.operand("alibi_slopes"),
            sinks=ctx.operand("sinks"),
            output_scale=ctx.operand("output_scale"),
            **({"shuffled_kv_cache": True} if _layout(ctx.spec) == "asm" else {}),
        )


def _ragged(ctx, out, query: str, bounds: str):
    from jax_aiter.kernels.triton.worker.own import glue

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
    space=paged_tiles.ragged,
)
def unified_attention(ctx):
    return _ragged(ctx, ctx.results[0], "q", "cu_seqlens_q")
