"""Keys and values into a paged cache, each head of each token quantised by a scale of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.kernels.hip.adapters import op
from jax_aiter.kernels.hip.cache.slots import SOURCE, capacity, writer
from jax_aiter.kernels.hip.cache.write import block_fits, layout_in, one_size
from jax_aiter.kernels.hip.quant.quant import AMAX_FLOOR, LARGEST
from jax_aiter.kernels.hip.rules import FLOAT, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

MOST = 512


def _refuse(spec: CallSpec) -> str | None:
    size, heads = spec["key"].shape[-1], spec["key"].shape[1]
    large = f"heads of {size} elements; AITER's HIP kernel keeps at most {MOST} in registers" if size > MOST else None
    scales = None
    if spec.params["kv_layout"] == "vllm" and heads > 1:
        scales = f"kv_layout = 'vllm' with {heads} heads; AITER's HIP kernel keeps their scales by head and slot, not by block"
    return first(
        layout_in(spec, "asm", "vllm"),
        scales,
        dtype_in(spec, "key", FLOAT),
        dtype_in(spec, "key_cache", (spec.fp8, "int8")),
        one_size(spec),
        large,
        block_fits(spec, "key_cache"),
        fits_int32(spec, "key", "k_dequant_scales"),
    )


def _zero_rows(spec: CallSpec, operands: Mapping[str, Any], results: Sequence[Any]) -> Sequence[Any]:
    """AITER gives a row of zeros the scale 0 and divides by it: what is NaN there then becomes zeros, with the scale of the floor.

    Each head of each block is a block of its own here, since rows are of a token and a head.
    """
    import jax.numpy as jnp

    from jax_aiter.ops.cache import write
    from jax_aiter.ops.cache.kv_layout import cache_axes
    from jax_aiter.ops.cache.kv_layout import write as put

    axes = cache_axes(spec.params["kv_layout"])
    (tokens, heads, _), (blocks, _, size) = spec["key"].shape, spec["k_dequant_scales"].shape
    block, place = write.slots(operands["slot_mapping"], blocks, size)
    fixed = []
    for i, name in enumerate(("key", "value")):
        cache, scales, rows = results[i], results[i + 2], operands[name]
        here = (rows == 0).all(-1) & (block < blocks)[:, None]
        at = jnp.where(here, block[:, None] * heads + jnp.arange(heads, dtype=jnp.int32), blocks * heads).reshape(-1)
        places = jnp.repeat(place, heads)

        def by_head(x: Any, values: Any, order: str, at: Any = at, places: Any = places) -> Any:
            return put(x.reshape(blocks * heads, 1, *x.shape[2:]), values, at, places, order).reshape(x.shape)

        zeros = jnp.zeros((tokens * heads, 1, rows.shape[-1]), cache.dtype)
        floor = jnp.full((tokens * heads, 1, 1), AMAX_FLOOR / LARGEST[spec["key_cache"].dtype], jnp.float32)
        fixed.append((by_head(cache, zeros, axes[f"{name}_cache"]), by_head(scales, floor, "nb Hk bs")))
    return [x for pair in zip(*fixed, strict=True) for x in pair]


@op(
    "reshape_and_cache_with_pertoken_quant",
    function="aiter::reshape_and_cache_with_pertoken_quant",
    sources=(SOURCE,),
    refuse=_refuse,
    arrange=dataclasses.replace(writer("key_cache"), finish=_zero_rows),
    entry="aiter.reshape_and_cache_with_pertoken_quant calls nothing else",
)
def reshape_and_cache_with_pertoken_quant(ctx):
    asm = ctx.params["kv_layout"] == "asm"
    names = ("key_cache", "value_cache", "k_dequant_scales", "v_dequant_scales")
    keys, values, *scales = (ctx.in_place(name, i) for i, name in enumerate(names))
    if not asm:
        scales = [scale.view(1, capacity(ctx.spec, "key_cache")) for scale in scales]
    call = ctx["key"], ctx["value"], keys, values, *scales, ctx["slot_mapping"]
    ctx.call(SOURCE, "aiter::reshape_and_cache_with_pertoken_quant", *call, asm)
