"""A paged MLA cache [nb, bs, L + R]: per token a latent and the rotary key that all heads share."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import symbolic
from jax_aiter.core.reads import Part, grid, spread
from jax_aiter.ops.cache import kv_layout
from jax_aiter.ops.cache import write as cache_write
from jax_aiter.ops.quant.numerics import quantize_stored


def has_head_axis(kv_cache: Any) -> bool:
    """Whether a cache is ``[nb, bs, 1, C]``, as attention reads it, or ``[nb, bs, C]``; the record checks the sizes."""
    return kv_cache.ndim == 4


def axes(params: Mapping[str, Any]) -> dict[str, str]:
    """A reshape between the two would be a copy of the cache in a loop."""
    return {"kv_cache": "nb bs 1 C" if params["head_axis"] else "nb bs C"}


def capacity(kv_cache: Any) -> int:
    return kv_cache.shape[0] * kv_cache.shape[1]


def check_cache(op: str, dims: Mapping[str, int], tokens: np.dtype, kv_cache: Any, name: str, scale: Any) -> None:
    """Sizes, and the dtype beside that of the tokens; `name` is what the scale is called."""
    if dims["C"] != dims["L"] + dims["R"]:
        rule = f"the last dimensions of kv_c and k_pe together, {dims['L']} + {dims['R']}"
        raise ValueError(f"{op}: the last dimension of kv_cache is {dims['C']}, must be that of {rule}")
    for axis in ("nb", "bs"):
        symbolic.below(0, dims[axis], f"{op}: kv_cache has {axis} = {dims[axis]}, must be at least 1")
    cache_write.below_int32(op, dims["nb"], dims["bs"])
    if kv_cache.dtype.itemsize > 1:
        if kv_cache.dtype != tokens:
            raise TypeError(f"{op}: kv_cache has dtype {kv_cache.dtype.name}, must be that of the tokens, {tokens.name}, or fp8")
        if scale is not None:
            raise TypeError(f"{op}: {name} is for fp8 caches, but kv_cache has dtype {kv_cache.dtype.name}")


def write(kv_c: jax.Array, k_pe: jax.Array, kv_cache: jax.Array, slot_mapping: jax.Array, scale: jax.Array | None) -> jax.Array:
    rows = jnp.concatenate([kv_c, k_pe], axis=-1)
    if kv_cache.dtype.itemsize == 1:
        rows = quantize_stored(rows, scale, kv_cache.dtype)
    block, place = cache_write.slots(slot_mapping, *kv_cache.shape[:2])
    return kv_layout.write(kv_cache, rows[:, None], block, place, "nb bs Hk D" if has_head_axis(kv_cache) else "nb bs D")


def written_part(slot_mapping: np.ndarray, kv_cache: np.ndarray, latent: str, rotary: str) -> Part:
    """One group per slot: the token that is written there, or what stands there already."""
    blocks, size, *rest = kv_cache.shape
    block, place = grid(blocks, size)
    tokens, kept = cache_write.written(block * size + place, slot_mapping)
    rows, label = spread(tokens, None), np.arange(len(block)).reshape(blocks, size, *(1 for _ in rest))
    return "kv_cache", label, {latent: rows, rotary: rows, "kv_cache": kept.reshape(-1, *label.shape)}
