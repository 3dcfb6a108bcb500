"""What the writers of the indexer's cache share: quantising keys, writing them, what of the cache depends on what."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import check
from jax_aiter.core.reads import Part
from jax_aiter.ops.cache import write as cache_write
from jax_aiter.ops.indexer import index_cache
from jax_aiter.ops.quant.numerics import dtype_max, fp8, saturating_cast

#: None: amax / largest value; "ue8m0": the next power of two.
SCALE_FORMATS = (None, "ue8m0")
#: The least maximum of a key's block.
AMAX_FLOOR = np.float32(1e-4)


def power_of_two(scale: jax.Array) -> jax.Array:
    """The least power of two that is not below a positive, normal float32, from its bits."""
    bits = jax.lax.bitcast_convert_type(scale, jnp.int32)
    return jax.lax.bitcast_convert_type((bits + 0x7FFFFF) & ~0x7FFFFF, jnp.float32)


def check_writer(op: str, dims, quant_block_size: int, preshuffle: bool) -> None:
    groups = index_cache.groups(op, dims["D"], quant_block_size)
    index_cache.check_cache(op, dims, dims["D"], groups, preshuffle)


def quantised(rows: jax.Array, quant_block_size: int, scale_fmt: str | None, dtype: np.dtype) -> tuple[jax.Array, jax.Array]:
    """Codes ``[T, D]`` and scales float32 ``[T, G]`` of keys."""
    groups = rows.shape[-1] // quant_block_size
    wide = rows.astype(jnp.float32).reshape(rows.shape[0], groups, quant_block_size)
    scale = jnp.maximum(jnp.max(jnp.abs(wide), axis=-1), AMAX_FLOOR) / np.float32(dtype_max(dtype))
    if scale_fmt == "ue8m0":
        scale = power_of_two(scale)
    codes = saturating_cast(wide * (1 / scale)[..., None], dtype)
    return codes.reshape(rows.shape), scale


def write(
    rows, kv_cache, slot_mapping, quant_block_size: int, scale_fmt: str | None, preshuffle: bool, dtype: np.dtype
) -> jax.Array:
    """The cache with the keys ``[T, D]`` in their slots."""
    blocks, size, width = kv_cache.shape
    codes, scale = quantised(rows, quant_block_size, scale_fmt, dtype)
    values = jnp.concatenate([jax.lax.bitcast_convert_type(codes, jnp.uint8), index_cache.parts_of(scale)], axis=-1)
    block, place = cache_write.slots(slot_mapping, blocks, size)
    head, groups = rows.shape[1], scale.shape[1]
    keys, scales = index_cache.key_bytes(place, head, preshuffle), index_cache.scale_bytes(place, size, head, groups)
    byte = jnp.concatenate([keys, scales], axis=-1)
    return kv_cache.at[block[:, None], byte // width, byte % width].set(values, mode="drop")


def written_part(slot_mapping: np.ndarray, k: np.ndarray, kv_cache: np.ndarray, quant_block_size: int, preshuffle: bool) -> Part:
    """One group per slot: the token written there, or what stands there already; and one per block's padding."""
    (blocks, size, width), head = kv_cache.shape, k.shape[1]
    owner = index_cache.owner_of((size, width), head, head // quant_block_size, preshuffle)
    slot = np.arange(blocks)[:, None, None] * (size + 1) + owner  # size + 1 of a block: its padding is the last
    count = blocks * (size + 1)
    index = np.arange(count)
    place, block = index % (size + 1), index // (size + 1)
    tokens, kept = cache_write.written(
        np.where(place < size, block * size + place, -1), np.where(slot_mapping < 0, -2, slot_mapping)
    )
    stays = (slot[None] == index[:, None, None, None]) & kept.any(1)[:, None, None, None]
    return "kv_cache", slot, {"k": tokens[..., None], "kv_cache": stays}


def capacity(kv_cache: Any) -> int:
    return kv_cache.shape[0] * kv_cache.shape[1]


def parameters(op: str, scale_fmt: str | None, preshuffle: bool, quant_dtype: Any) -> dict[str, Any]:
    """Of a writer's call, checked."""
    check.choice(op, "scale_fmt", scale_fmt, SCALE_FORMATS)
    flag = check.boolean(op, "preshuffle", preshuffle)
    return {"scale_fmt": scale_fmt, "preshuffle": flag, "quant_dtype": fp8(op, quant_dtype)}
