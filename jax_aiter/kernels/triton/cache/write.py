"""Writers of paged caches: AITER's kernel where it has one that takes the call, else one of our own that takes them all."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import FLOAT, GRID, HALF, dtype_in, first, fits_int32, power_of_two, row_fits

LARGEST = {"float8_e4m3fnuz": 240.0, "float8_e4m3fn": 448.0}
OWN = "jax_aiter.kernels.triton.worker"


def heads_fit(spec: CallSpec, queries: str | None, keys: str) -> str | None:
    """What our own writer asks: a row in registers, a program for each head of queries, keys and values."""
    size, kv_heads = spec[keys].shape[-1], spec[keys].shape[1]
    programs = 2 * kv_heads + (0 if queries is None else spec[queries].shape[1])
    many = f"{programs} heads of queries, keys and values; the Triton kernel needs a grid dimension for them, at most {GRID}"
    return first(dtype_in(spec, keys, FLOAT), row_fits(size, keys), many if programs > GRID else None)


def aiters(module: str, name: str, parameter: str | None = None) -> Callable[..., Any] | None:
    """In the worker: AITER's wrapper, None where this release has none that takes `parameter`."""
    import importlib
    import inspect

    try:
        found = getattr(importlib.import_module(f"aiter.ops.triton.{module}"), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"aiter.ops.triton.{module}".startswith(error.name):
            raise
        return None
    return found if found is None or parameter is None or parameter in inspect.signature(found).parameters else None


def _refuse_heads(spec: CallSpec) -> str | None:
    return first(heads_fit(spec, None, "key"), row_fits(spec["value"].shape[-1], "value"))


@op("reshape_and_cache", source=f"{OWN}.own.glue_heads.write", refuse=_refuse_heads, needs=())
def reshape_and_cache(ctx):
    from jax_aiter.kernels.triton.worker.own import glue_heads

    key, value, slots = (ctx.operand(name) for name in ("key", "value", "slot_mapping"))
    caches = ctx.in_place("key_cache", 0), ctx.in_place("value_cache", 1)
    scales = ctx.operand("k_scale"), ctx.operand("v_scale")
    glue_heads.write(key, value, caches, slots, ctx.spec.params["kv_layout"], scales=scales)
    return ctx.results


@op("reshape_and_cache_with_pertoken_quant", source=f"{OWN}.own.glue_heads.write", refuse=_refuse_heads, needs=())
def reshape_and_cache_with_pertoken_quant(ctx):
    from jax_aiter.kernels.triton.worker.own import glue_heads

    key, value, slots = (ctx.operand(name) for name in ("key", "value", "slot_mapping"))
    caches = ctx.in_place("key_cache", 0), ctx.in_place("value_cache", 1)
    own = ctx.in_place("k_dequant_scales", 2), ctx.in_place("v_dequant_scales", 3)
    glue_heads.write(key, value, caches, slots, ctx.spec.params["kv_layout"], own_scales=own)
    return ctx.results


def mla_fits(spec: CallSpec) -> str | None:
    """What our own writer of MLA's cache asks."""
    rows = (row_fits(spec[name].shape[-1], name) for name in ("kv_c", "k_pe"))
    return first(dtype_in(spec, "kv_c", FLOAT), *rows)


def not_aiters_mla(spec: CallSpec) -> str | None:
    """Why AITER's kernels do not take a cache and its tokens."""
    latent, rotary = spec["kv_c"].shape[1], spec["k_pe"].shape[1]
    return first(
        dtype_in(spec, "kv_cache", ("bfloat16", spec.fp8)),
        dtype_in(spec, "kv_c", HALF),
        power_of_two("the last dimension of kv_c", latent),
        power_of_two("the last dimension of k_pe", rotary),
        fits_int32(spec, "kv_c", "k_pe"),
    )


@op("concat_and_cache_mla", source="aiter.ops.triton.kv_cache.cat_and_cache_mla", refuse=mla_fits, needs=())
def concat_and_cache_mla(ctx):
    from jax_aiter.kernels.triton.worker.own import glue_cache, glue_mla

    kv_c, k_pe, scale, mapping = (ctx.operand(name) for name in ("kv_c", "k_pe", "scale", "slot_mapping"))
    cache, write = ctx.in_place("kv_cache", 0), aiters("kv_cache", "cat_and_cache_mla")
    if write is None or not_aiters_mla(ctx.spec) is not None:
        glue_mla.write(kv_c, k_pe, cache, mapping, scale)
        return ctx.results
    capacity = cache.shape[0] * cache.shape[1]
    slots = glue_cache.slots(mapping, capacity)
    top = LARGEST.get(ctx.spec["kv_cache"].dtype)
    if top is not None and not ctx.spec.arch.startswith("sm_"):  # the conversion of AMD's targets does not saturate
        kv_c, k_pe = (glue_cache.bounded(x, scale, top) for x in (kv_c, k_pe))
    flat = cache.view(capacity, 1, cache.shape[-1])
    write(kv_c.unsqueeze(1), k_pe.unsqueeze(1), flat, slots, scale)
    return ctx.results
