"""What the ops that write a paged cache share: slots, the checks of them, their batches, what a written cache depends on.

Slot s is place ``s % bs`` of block ``s // bs``. A token whose slot is negative or past the capacity is skipped.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.batching import Batched, merged, split
from jax_aiter.core import check, symbolic
from jax_aiter.core.reads import Mask, Part, at, grid, spread
from jax_aiter.ops.cache.dtypes import kv_dtypes
from jax_aiter.ops.cache.kv_layout import cache_axes, check_caches, write
from jax_aiter.ops.cache.paged_reads import by_layout
from jax_aiter.ops.quant.numerics import quantize_stored


def below_int32(op: str, blocks: int, size: int) -> None:
    rule = f"{op}: the cache has {blocks} x {size} slots, must be less than 2^31 to be numbered in int32"
    symbolic.below(blocks * size, 2**31, rule)


def check_both(op: str, dims: Mapping[str, int], operands: Mapping[str, Any], kv_layout: str, key="key", value="value") -> None:
    """Types and sizes of keys, values and their caches; D is the head's size. `key` and `value` are the names of the tokens'."""
    key_cache, value_cache, dtype = operands["key_cache"], operands["value_cache"], operands[key].dtype
    check.same_dtype(op, **{key: dtype, value: operands[value].dtype})
    kv_dtypes(op, dtype, key_cache.dtype, value_cache.dtype, operands.get("k_scale"), operands.get("v_scale"))
    below_int32(op, dims["nb"], check_caches(op, kv_layout, dims, key_cache.dtype, dims["D"]))


def sizes_of(key_cache: Any, kv_layout: str) -> dict[str, int]:
    """By axis name."""
    return dict(zip(cache_axes(kv_layout)["key_cache"].split(), key_cache.shape, strict=True))


def capacity(key_cache: Any, kv_layout: str) -> int:
    sizes = sizes_of(key_cache, kv_layout)
    return sizes["nb"] * sizes["bs"]


def slots(slot_mapping: jax.Array, blocks: int, size: int) -> tuple[jax.Array, jax.Array]:
    """Block and place of each token, as `write` takes them."""
    # A negative index would count from the end; "past the end" is what a scatter drops.
    return jnp.where(slot_mapping < 0, blocks, slot_mapping // size), slot_mapping % size


def write_both(key, value, key_cache, value_cache, slot_mapping, k_scale, v_scale, kv_layout: str) -> tuple[jax.Array, jax.Array]:
    """Both caches with the tokens' keys and values, divided by the scales where the cache is of one byte."""
    axes, sizes = cache_axes(kv_layout), sizes_of(key_cache, kv_layout)
    block, place = slots(slot_mapping, sizes["nb"], sizes["bs"])
    out = []
    for name, rows, cache, scale in (("key_cache", key, key_cache, k_scale), ("value_cache", value, value_cache, v_scale)):
        if cache.dtype.itemsize == 1:
            rows = quantize_stored(rows, scale, cache.dtype)
        out.append(write(cache, rows, block, place, axes[name]))
    return out[0], out[1]


def data_checks(slot_mapping: jax.Array, count: int) -> dict[str, jax.Array]:
    ordered = jnp.sort(slot_mapping)
    return {
        f"slot_mapping must be below the capacity {count}": slot_mapping >= count,
        "no two tokens may have the same slot in slot_mapping": (ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0),
    }


def element(batched: Batched, name: str) -> jax.ShapeDtypeStruct:
    """An operand as one element of the batch has it."""
    x = batched.values[name]
    return jax.ShapeDtypeStruct(x.shape[1:] if name in batched else x.shape, x.dtype)


def one_longer_cache(batched: Batched, count: int, shared: tuple[str, ...]):
    """`jax.vmap` of a cache write: batched caches are one longer cache; each element's slots move to its part of it.

    count: slots of one cache. shared: operands that an element may not have its own of (scales, tables): a batch of them is a loop.
    """
    if any(n in batched for n in shared) or not symbolic.decided(lambda: batched.size * count < 2**31):
        return NotImplemented
    values = {n: batched.broadcast(n) for n in batched.values if n not in shared}
    mapping = values["slot_mapping"]
    offset = count * jnp.arange(batched.size, dtype=jnp.int32)[:, None]
    values["slot_mapping"] = jnp.where((mapping < 0) | (mapping >= count), -1, mapping + offset)
    out = batched.bind(**{n: merged(x) for n, x in values.items()}, **{n: batched.get(n) for n in shared})
    return [split(x, batched.size) for x in out]


def through(tokens: Mask, rows: Mask) -> Mask:
    """The table rows ``[G, P, 1]`` of the tokens ``[G, T]`` that stand in a group; rows: ``[T, P, 1]``."""
    return (tokens[:, :, None] & rows[None, :, :, 0]).any(1)[..., None]


def written(slot: np.ndarray, slot_mapping: np.ndarray) -> tuple[Mask, Mask]:
    """Of each group, one for each number in `slot`: its tokens ``[G, T]``; and ``[G, G]``, itself where no token is written."""
    tokens = slot[:, None] == slot_mapping
    return tokens, np.eye(len(slot), dtype=bool) & ~tokens.any(1)[:, None]


def written_parts(slot_mapping, key_cache, value_cache, kv_layout: str, key: str = "key", value: str = "value") -> list[Part]:
    """One group per slot, head and cache: the tokens written there, or what stands there already."""
    sizes = sizes_of(key_cache, kv_layout)
    block, place, head = grid(sizes["nb"], sizes["bs"], sizes["Hk"])
    tokens, kept = written(block * sizes["bs"] + place, slot_mapping)
    rows = spread(tokens, at(head, sizes["Hk"]), None)
    shape = sizes["nb"], sizes["bs"], sizes["Hk"]
    parts = []
    for name, rows_of, cache in (("key_cache", key, key_cache), ("value_cache", value, value_cache)):
        order = cache_axes(kv_layout)[name], cache.shape[-1]
        label = by_layout(np.arange(len(head)).reshape(shape), *order)
        parts.append((name, label, {rows_of: rows, name: by_layout(kept.reshape(-1, *shape), *order)}))
    return parts
