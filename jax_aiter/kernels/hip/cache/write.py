"""Keys and values, or MLA's latents, into a paged cache where it stands: copied, or divided by a scale and rounded to fp8."""

from __future__ import annotations

from jax_aiter.kernels.hip.adapters import op
from jax_aiter.kernels.hip.cache.slots import SOURCE, writer
from jax_aiter.kernels.hip.rules import FLOAT, INT32_MAX, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

FUNCTIONS = {"NHD": "reshape_and_cache_flash", "vllm": "reshape_and_cache", "asm": "reshape_and_cache"}


def layout_in(spec: CallSpec, *allowed: str) -> str | None:
    layout = spec.params["kv_layout"]
    return None if layout in allowed else f"kv_layout = {layout!r}; AITER's HIP kernel writes {', '.join(map(repr, allowed))}"


def one_size(spec: CallSpec) -> str | None:
    """Of keys and values: AITER's kernels know one."""
    key, value = spec["key"].shape[-1], spec["value"].shape[-1]
    return None if key == value else f"heads of {key} and {value} elements; AITER's HIP kernel has one size for keys and values"


def block_fits(spec: CallSpec, *caches: str) -> str | None:
    """Offsets in a block have 32 bits, those of blocks 64."""
    for name in caches:
        size = spec[name].size // spec[name].shape[0]
        if size > INT32_MAX:
            return f"{name} has {size} elements in a block; AITER's HIP kernel counts them with 32 bits"
    return None


def _kind(spec: CallSpec, cache: str) -> str:
    """As AITER names the dtype of a cache."""
    return "fp8" if spec[cache].dtype == spec.fp8 else "auto"


def _refuse(spec: CallSpec) -> str | None:
    return first(
        layout_in(spec, *FUNCTIONS),
        dtype_in(spec, "key", FLOAT),
        dtype_in(spec, "key_cache", (*FLOAT, spec.fp8)),
        one_size(spec),
        block_fits(spec, "key_cache"),
        fits_int32(spec, "key"),
    )


@op(
    "reshape_and_cache",
    function="aiter::reshape_and_cache_flash (NHD), aiter::reshape_and_cache (vllm, asm)",
    sources=(SOURCE,),
    refuse=_refuse,
    arrange=writer("key_cache", {"k_scale": ("key",), "v_scale": ("value",)}),
    entry="aiter.reshape_and_cache and reshape_and_cache_flash call nothing else",
)
def reshape_and_cache(ctx):
    layout = ctx.params["kv_layout"]
    caches = ctx.in_place("key_cache", 0), ctx.in_place("value_cache", 1)
    scales = ctx.operand("k_scale"), ctx.operand("v_scale")
    call = (ctx["key"], ctx["value"], *caches, ctx["slot_mapping"], _kind(ctx.spec, "key_cache"))
    if layout == "NHD":  # which takes the address of scales that it does not read
        ctx.call(SOURCE, "aiter::reshape_and_cache_flash", *call, *(x or ctx.scratch((1,), "float32") for x in scales))
    else:
        ctx.call(SOURCE, "aiter::reshape_and_cache", *call, *scales, layout == "asm")


def _refuse_mla(spec: CallSpec) -> str | None:
    return first(
        dtype_in(spec, "kv_c", FLOAT),
        dtype_in(spec, "kv_cache", (*FLOAT, spec.fp8)),
        block_fits(spec, "kv_cache"),
        fits_int32(spec, "kv_c", "k_pe"),
    )


@op(
    "concat_and_cache_mla",
    function="aiter::concat_and_cache_mla",
    sources=(SOURCE,),
    refuse=_refuse_mla,
    arrange=writer("kv_cache", {"scale": ("kv_c", "k_pe")}),
    entry="aiter.concat_and_cache_mla calls nothing else",
)
def concat_and_cache_mla(ctx):
    cache = ctx.in_place("kv_cache", 0)
    rows = cache.view(*cache.shape[:2], cache.shape[-1])
    scale = ctx.operand("scale") or ctx.scratch((1,), "float32")
    kind = _kind(ctx.spec, "kv_cache")
    ctx.call(SOURCE, "aiter::concat_and_cache_mla", ctx["kv_c"], ctx["k_pe"], rows, ctx["slot_mapping"], kind, scale)
