"""Writers of paged caches, alone and after the rotation of queries and keys."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import FLOAT, HALF, absent, dtype_in, first, fits_int32, param_is
from jax_aiter.kernels.triton.spec import CallSpec

LARGEST = {"float8_e4m3fnuz": 240.0, "float8_e4m3fn": 448.0}
FUSED = "aiter.ops.triton.fusions.fused_kv_cache"


def _power_of_two(what: str, size: int) -> str | None:
    return f"{what} is {size}; AITER's Triton kernel needs a power of two" if size & (size - 1) else None


def _saturates(spec: CallSpec, cache: str) -> str | None:
    """What is rotated within a kernel cannot be bounded before it."""
    if spec[cache].dtype in LARGEST and not spec.arch.startswith("sm_"):
        return f"{cache} has dtype {spec[cache].dtype}; AITER's Triton kernel does not saturate rotated keys on AMD"
    return None


def _whole(spec: CallSpec, size: int, of: str) -> str | None:
    """The rotation of these kernels is that of a whole head."""
    rotary = spec["cos"].shape[1] * (2 if spec.params["reuse_freqs_front_part"] else 1)
    return None if rotary == size else f"rotary dimension = {rotary}; AITER's Triton kernel rotates the whole {of} ({size})"


def _rotated(ctx, capacity: int):
    """Positions and slots that the kernels may use as they are, and the style."""
    from jax_aiter.kernels.triton.worker import glue, glue_cache

    positions = glue.clip(ctx.operand("positions"), ctx.operand("cos").shape[0] - 1)
    slots = glue_cache.slots(ctx.operand("slot_mapping"), capacity)
    return positions, slots, ctx.spec.params["rotate_style"] == "neox", ctx.spec.params["reuse_freqs_front_part"]


def _refuse_mla(spec: CallSpec) -> str | None:
    latent, rotary = spec["kv_c"].shape[1], spec["k_pe"].shape[1]
    return first(
        dtype_in(spec, "kv_cache", ("bfloat16", spec.fp8)),
        dtype_in(spec, "kv_c", HALF),
        _power_of_two("the last dimension of kv_c", latent),
        _power_of_two("the last dimension of k_pe", rotary),
        fits_int32(spec, "kv_c", "k_pe"),
    )


@op(
    "concat_and_cache_mla",
    source="aiter.ops.triton.kv_cache.cat_and_cache_mla",
    refuse=_refuse_mla,
    needs=("kv_cache:cat_and_cache_mla",),
)
def concat_and_cache_mla(ctx):
    from aiter.ops.triton.kv_cache import cat_and_cache_mla

    from jax_aiter.kernels.triton.worker import glue_cache

    kv_c, k_pe, scale = (ctx.operand(name) for name in ("kv_c", "k_pe", "scale"))
    cache = ctx.in_place("kv_cache", 0)
    capacity = cache.shape[0] * cache.shape[1]
    slots = glue_cache.slots(ctx.operand("slot_mapping"), capacity)
    top = LARGEST.get(ctx.spec["kv_cache"].dtype)
    if top is not None and not ctx.spec.arch.startswith("sm_"):  # the conversion of AMD's targets does not saturate
        kv_c, k_pe = (glue_cache.bounded(x, scale, top) for x in (kv_c, k_pe))
    flat = cache.view(capacity, 1, cache.shape[-1])
    cat_and_cache_mla(kv_c.unsqueeze(1), k_pe.unsqueeze(1), flat, slots, scale)
    return ctx.results


def _refuse_rope_mla(spec: CallSpec) -> str | None:
    queries = spec.params["q_out_dtype"]
    return first(
        _refuse_mla(spec),
        _saturates(spec, "kv_cache"),
        absent(spec, "q_scale"),
        None if queries in FLOAT else f"q_out_dtype = {queries}; AITER's Triton kernel does not scale the queries it quantises",
        _whole(spec, spec["k_pe"].shape[1], "of k_pe"),
        fits_int32(spec, "q_nope", "q_pe", "cos"),
    )


@op(
    "fused_qk_rope_concat_and_cache_mla",
    source=f"{FUSED}.fused_qk_rope_cat_and_cache_mla",
    refuse=_refuse_rope_mla,
    needs=("fusions.fused_kv_cache:fused_qk_rope_cat_and_cache_mla(upcast_operand)",),
)
def fused_qk_rope_concat_and_cache_mla(ctx):
    from aiter.ops.triton.fusions.fused_kv_cache import fused_qk_rope_cat_and_cache_mla

    from jax_aiter.kernels.triton.worker import glue_cache

    q_nope, q_pe, kv_c, k_pe, cos, sin = (ctx.operand(name) for name in ("q_nope", "q_pe", "kv_c", "k_pe", "cos", "sin"))
    q_out, k_out, _ = ctx.results
    cache = ctx.in_place("kv_cache", 2)
    capacity = cache.shape[0] * cache.shape[1]
    positions, slots, neox, reuse = _rotated(ctx, capacity)
    keys, turned = k_pe.unsqueeze(1), k_out.unsqueeze(1)
    fused_qk_rope_cat_and_cache_mla(
        q_nope,
        q_pe,
        kv_c.unsqueeze(1),
        keys,
        cache.view(capacity, 1, cache.shape[-1]),
        slots,
        positions,
        cos,
        sin,
        ctx.operand("k_scale"),
        neox,
        q_out=q_out,
        k_pe_out=turned,
        upcast_operand=True,
    )
    glue_cache.turn_skipped(keys, positions, cos, sin, slots, turned, neox, reuse)
    return ctx.results


def _refuse_rope_and_cache(spec: CallSpec) -> str | None:
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
        _power_of_two("the size of a head", size),
        _power_of_two("the block size", block),
        _whole(spec, size, "head"),
        fits_int32(spec, "q", "k", "v", "cos"),
    )


@op(
    "rope_and_cache",
    source=f"{FUSED}.fused_qk_rope_reshape_and_cache",
    refuse=_refuse_rope_and_cache,
    needs=("fusions.fused_kv_cache:fused_qk_rope_reshape_and_cache(upcast_operand)",),
)
def rope_and_cache(ctx):
    from aiter.ops.triton.fusions.fused_kv_cache import fused_qk_rope_reshape_and_cache

    from jax_aiter.kernels.triton.worker import glue_cache

    q, k, v, cos, sin = (ctx.operand(name) for name in ("q", "k", "v", "cos", "sin"))
    layout = ctx.spec.params["kv_layout"]
    caches = ctx.in_place("key_cache", 2), ctx.in_place("value_cache", 3)
    if layout == "HND":  # the kernel goes by strides
        caches = tuple(cache.transpose(1, 2) for cache in caches)
    block = caches[0].shape[1 if layout in ("NHD", "HND") else 3]
    positions, slots, neox, reuse = _rotated(ctx, caches[0].shape[0] * block)
    fused_qk_rope_reshape_and_cache(
        q,
        k,
        v,
        *caches,
        slots,
        positions,
        cos,
        sin,
        ctx.operand("k_scale"),
        ctx.operand("v_scale"),
        neox,
        layout in ("NHD", "HND"),
        q_out=ctx.results[0],
        k_out=ctx.results[1],
        output_zeros=False,
        upcast_operand=True,
    )
    glue_cache.turn_skipped(k, positions, cos, sin, slots, ctx.results[1], neox, reuse)
    return ctx.results


def _refuse_two(spec: CallSpec) -> str | None:
    (heads, size), kv_heads = spec["q"].shape[-2:], spec["k"].shape[-2]
    rotary = spec["cos"].shape[1] * (2 if spec.params["reuse_freqs_front_part"] else 1)
    rule = None
    if rotary not in (size, size // 2):
        rule = f"rotary dimension = {rotary}; AITER's Triton kernel rotates the whole head ({size}) or half of it"
    elif heads % kv_heads:
        rule = f"q has {heads} heads and k {kv_heads}; AITER's Triton kernel needs a multiple"
    elif heads == kv_heads and heads & (heads - 1):
        rule = f"q and k have {heads} heads; AITER's Triton kernel writes past the last unless that is a power of two"
    elif heads > 65535:
        rule = f"q has {heads} heads; AITER's Triton kernel needs a grid dimension per head, at most 65535"
    return first(
        dtype_in(spec, "q", FLOAT),
        dtype_in(spec, "cos", ("float32",)),
        _power_of_two("the size of a head", size),
        param_is(spec, "rotate_style", "neox", "gptj"),
        rule,
        fits_int32(spec, "q", "k", "cos"),
    )


@op(
    "rope_2c",
    source="aiter.ops.triton.rope.rope.rope_cached_thd_positions_2c_fwd",
    refuse=_refuse_two,
    needs=("rope.rope:rope_cached_thd_positions_2c_fwd",),
)
def rope_2c(ctx):
    from aiter.ops.triton.rope.rope import RotateStyle, rope_cached_thd_positions_2c_fwd

    from jax_aiter.kernels.triton.worker import glue

    q, k, cos, sin = (ctx.operand(name) for name in ("q", "k", "cos", "sin"))
    params = ctx.spec.params
    return rope_cached_thd_positions_2c_fwd(
        q.view(-1, *q.shape[-2:]),
        k.view(-1, *k.shape[-2:]),
        cos,
        sin,
        glue.clip(ctx.operand("positions"), cos.shape[0] - 1).view(-1),
        RotateStyle.NEOX if params["rotate_style"] == "neox" else RotateStyle.GPTJ,
        params["reuse_freqs_front_part"],
        params["nope_first"],
    )
