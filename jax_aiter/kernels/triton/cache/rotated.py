"""Rotation of queries and keys with the cache's write: AITER's kernel where it takes the call, else one of our own, in one launch.

AITER's kernels rotate whole heads of 2^n elements and write caches of bfloat16 or fp8. Rotated keys saturate there as Triton's
conversion does: on AMD by the processor's mode with Triton 3.6, by nothing in AITER's code. So fp8 goes to ours there.
Its kernel with a norm (``fused_qkv_split_qk_norm_rope_cache``) takes queries, keys and values as one array, which a call would have
to copy them into, weights that are one less than ours, and two of the four layouts.
"""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.cache.write import LARGEST, OWN, aiters, heads_fit, mla_fits, not_aiters_mla
from jax_aiter.kernels.triton.rules import FLOAT, HALF, absent, dtype_in, first, fits_int32, power_of_two, row_fits

FUSED = "fusions.fused_kv_cache"


def _saturates(spec: CallSpec, cache: str) -> str | None:
    """What is rotated within a kernel cannot be bounded before it."""
    if spec[cache].dtype in LARGEST and not spec.arch.startswith("sm_"):
        return f"{cache} has dtype {spec[cache].dtype}; AITER's Triton kernel leaves it to the conversion to saturate rotated keys"
    return None


def _whole(spec: CallSpec, size: int, of: str) -> str | None:
    """The rotation of these kernels is that of a whole head."""
    rotary = spec["cos"].shape[1] * (2 if spec.params["reuse_freqs_front_part"] else 1)
    return None if rotary == size else f"rotary dimension = {rotary}; AITER's Triton kernel rotates the whole {of} ({size})"


def _rotated(ctx, capacity: int):
    """Positions and slots that AITER's kernels may use as they are, and the style."""
    from jax_aiter.kernels.triton.worker.own import glue, glue_cache

    positions = glue.clip(ctx.operand("positions"), ctx.operand("cos").shape[0] - 1)
    slots = glue_cache.slots(ctx.operand("slot_mapping"), capacity)
    return positions, slots, ctx.spec.params["rotate_style"] == "neox", ctx.spec.params["reuse_freqs_front_part"]


def not_aiters_rope_mla(spec: CallSpec) -> str | None:
    """Why AITER's kernel does not take a call."""
    queries = spec.params["q_out_dtype"]
    return first(
        not_aiters_mla(spec),
        _saturates(spec, "kv_cache"),
        absent(spec, "q_scale"),
        None if queries in FLOAT else f"q_out_dtype = {queries}; AITER's Triton kernel does not scale the queries it quantises",
        _whole(spec, spec["k_pe"].shape[1], "of k_pe"),
        fits_int32(spec, "q_nope", "q_pe", "cos"),
    )


def _refuse_rope_mla(spec: CallSpec) -> str | None:
    queries, own = spec.params["q_out_dtype"], (*FLOAT, spec.fp8)
    other = f"q_out_dtype = {queries}; the Triton kernel writes {', '.join(own)}"
    heads = spec["q_nope"].shape[1]
    many = f"q_nope has {heads} heads; the Triton kernel needs a grid dimension for them, at most 65534"
    return first(mla_fits(spec), None if queries in own else other, many if heads > 65534 else None)


@op(
    "fused_qk_rope_concat_and_cache_mla",
    source=f"aiter.ops.triton.{FUSED}.fused_qk_rope_cat_and_cache_mla",
    refuse=_refuse_rope_mla,
    needs=(),
)
def fused_qk_rope_concat_and_cache_mla(ctx):
    from jax_aiter.kernels.triton.worker.own import glue_cache, glue_heads, glue_mla

    names = ("q_nope", "q_pe", "kv_c", "k_pe", "cos", "sin", "k_scale")
    q_nope, q_pe, kv_c, k_pe, cos, sin, scale = (ctx.operand(name) for name in names)
    q_out, k_out, _ = ctx.results
    cache, fused = ctx.in_place("kv_cache", 2), aiters(FUSED, "fused_qk_rope_cat_and_cache_mla", "upcast_operand")
    if fused is None or not_aiters_rope_mla(ctx.spec) is not None:
        by = glue_heads.rotation(ctx.spec.params, k_pe.shape[1], cos.shape[1])
        turn = glue_heads.Turn(q_pe, q_out, k_out, ctx.operand("positions"), cos, sin, by)
        q_scale = ctx.operand("q_scale")
        glue_mla.write(kv_c, k_pe, cache, ctx.operand("slot_mapping"), scale, q_nope=q_nope, q_scale=q_scale, turn=turn)
        return ctx.results
    capacity = cache.shape[0] * cache.shape[1]
    positions, slots, neox, reuse = _rotated(ctx, capacity)
    keys, turned = k_pe.unsqueeze(1), k_out.unsqueeze(1)
    flat = cache.view(capacity, 1, cache.shape[-1])
    out = {"q_out": q_out, "k_pe_out": turned, "upcast_operand": True}
    fused(q_nope, q_pe, kv_c.unsqueeze(1), keys, flat, slots, positions, cos, sin, scale, neox, **out)
    glue_cache.turn_skipped(keys, positions, cos, sin, slots, turned, neox, reuse)
    return ctx.results


def not_aiters_rope_and_cache(spec: CallSpec) -> str | None:
    """Why AITER's kernel does not take a call."""
    (_, heads, size), (_, kv_heads, width) = spec["q"].shape, spec["v"].shape
    layout = spec.params["kv_layout"]
    block = spec["key_cache"].shape[{"NHD": 1, "HND": 2}.get(layout, 3)]
    rule = None
    if heads % kv_heads:
        rule = f"q has {heads} heads and k {kv_heads}; AITER's Triton kernel needs a multiple"
    elif width != size:
        rule = f"v has heads of {width} elements and k of {size}; AITER's Triton kernel needs one size"
    return first(
        dtype_in(spec, "key_cache", ("bfloat16", spec.fp8)),
        dtype_in(spec, "q", HALF),
        _saturates(spec, "key_cache"),
        rule,
        power_of_two("the size of a head", size),
        power_of_two("the block size", block),
        _whole(spec, size, "head"),
        fits_int32(spec, "q", "k", "v", "cos"),
    )


#: Tokens up to which ours is faster than AITER's with the three launches around it: on an H200 (40 heads of 128) 8.0 for 10.3 µs of
#: 64 tokens, and 136 for 89 of 4096; both grow with the tokens.
FEW = 256


def _few(spec: CallSpec) -> bool:
    return spec.arch.startswith("sm_") and spec["q"].shape[0] <= FEW


def _refuse_heads(spec: CallSpec) -> str | None:
    return first(heads_fit(spec, "q", "k"), row_fits(spec["v"].shape[-1], "v"))


@op(
    "rope_and_cache",
    source=f"aiter.ops.triton.{FUSED}.fused_qk_rope_reshape_and_cache",
    refuse=_refuse_heads,
    needs=(),
)
def rope_and_cache(ctx):
    fused = aiters(FUSED, "fused_qk_rope_reshape_and_cache", "upcast_operand")
    if fused is None or _few(ctx.spec) or not_aiters_rope_and_cache(ctx.spec) is not None:
        return _own(ctx)

    from jax_aiter.kernels.triton.worker.own import glue_cache

    q, k, v, cos, sin, k_scale, v_scale = (ctx.operand(name) for name in ("q", "k", "v", "cos", "sin", "k_scale", "v_scale"))
    layout = ctx.spec.params["kv_layout"]
    caches = ctx.in_place("key_cache", 2), ctx.in_place("value_cache", 3)
    if layout == "HND":  # the kernel goes by strides
        caches = tuple(cache.transpose(1, 2) for cache in caches)
    flash = layout in ("NHD", "HND")
    block = caches[0].shape[1 if flash else 3]
    positions, slots, neox, reuse = _rotated(ctx, caches[0].shape[0] * block)
    out = {"q_out": ctx.results[0], "k_out": ctx.results[1], "output_zeros": False, "upcast_operand": True}
    fused(q, k, v, *caches, slots, positions, cos, sin, k_scale, v_scale, neox, flash, **out)
    glue_cache.turn_skipped(k, positions, cos, sin, slots, ctx.results[1], neox, reuse)
    return ctx.results


@op("fused_qk_norm_rope_cache", source=f"{OWN}.own.glue_heads.write", refuse=_refuse_heads, needs=())
def fused_qk_norm_rope_cache(ctx):
    return _own(ctx)


def _own(ctx):
    """Any layout, dtype and size, with a norm before it or without."""
    from jax_aiter.kernels.triton.worker.own import glue_heads

    q, k, v, cos, sin = (ctx.operand(name) for name in ("q", "k", "v", "cos", "sin"))
    params, weights = ctx.spec.params, (ctx.operand("q_weight"), ctx.operand("k_weight"))
    by, (q_out, k_out, *_) = glue_heads.rotation(params, k.shape[-1], cos.shape[1]), ctx.results
    turn = glue_heads.Turn(q, q_out, k_out, ctx.operand("positions"), cos, sin, by, weights, params.get("epsilon", 0.0))
    caches = ctx.in_place("key_cache", 2), ctx.in_place("value_cache", 3)
    scales = ctx.operand("k_scale"), ctx.operand("v_scale")
    glue_heads.write(k, v, caches, ctx.operand("slot_mapping"), params["kv_layout"], scales=scales, turn=turn)
    return ctx.results
