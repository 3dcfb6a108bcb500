"""The paged cache of the indexer's keys, uint8 ``[nb, bs, W]``, as AITER's kernels lay out a block of bs * W bytes.

First bs keys of D fp8 bytes, one after the other; then, for each key, a float32 scale for every group of its bytes; then padding.
Preshuffled, the keys lie in tiles of 16 keys by 16 bytes (a matrix instruction's operand): all tiles of the first 16 keys, then
those of the next. Scales do not move.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import check, symbolic
from jax_aiter.ops.cache import write

TILE = 16
SCALE_BYTES = 4


def check_cache(op: str, dims: Mapping[str, int], head: int, groups: int, preshuffle: bool) -> None:
    """Sizes of a cache with axes ``nb bs W``, for keys of `head` bytes with `groups` scales."""
    least, scales = head + SCALE_BYTES * groups, SCALE_BYTES * groups
    rule = f"{op}: dimension 2 of kv_cache is {dims['W']}, must be at least D + {scales} = {least}"
    symbolic.below(least - 1, dims["W"], rule)
    for axis, dimension in (("nb", 0), ("bs", 1)):
        symbolic.below(0, dims[axis], f"{op}: dimension {dimension} of kv_cache is {dims[axis]}, must be at least 1 ({axis})")
    write.below_int32(op, dims["nb"], dims["bs"])
    if preshuffle:
        check.multiple(op, "dimension 1 of kv_cache", dims["bs"], TILE, "preshuffled keys lie in tiles of 16 by 16")
        check.multiple(op, "the size of a key", head, TILE, "preshuffled keys lie in tiles of 16 by 16")


def groups(op: str, head: int, quant_block_size: int) -> int:
    """Scales of a key."""
    check.multiple(op, "the size of a key", head, quant_block_size, "it is quantised in blocks of quant_block_size")
    return head // quant_block_size


def key_bytes(place: Any, head: int, preshuffle: bool) -> Any:
    """Where in its block each byte of the keys at `place` [...] stands: int [..., D]."""
    place, column = place[..., None], np.arange(head, dtype=np.int32)
    if not preshuffle:
        return place * head + column
    return place // TILE * (TILE * head) + column // TILE * TILE**2 + place % TILE * TILE + column % TILE


def scale_bytes(place: Any, size: int, head: int, groups: int) -> Any:
    """Where in its block of `size` keys each byte of their scales stands: int [..., 4 G]."""
    width = SCALE_BYTES * groups
    return size * head + place[..., None] * width + np.arange(width, dtype=np.int32)


def keys_of(blocks: jax.Array, size: int, head: int, preshuffle: bool) -> jax.Array:
    """The key bytes ``[n, bs, D]`` of whole blocks ``[n, bs * W]``."""
    keys, count = blocks[:, : size * head], blocks.shape[0]
    if preshuffle:
        tiles = keys.reshape(count, size // TILE, head // TILE, TILE, TILE)
        return tiles.swapaxes(2, 3).reshape(count, size, head)
    return keys.reshape(count, size, head)


def floats(parts: jax.Array) -> jax.Array:
    """Bytes [..., 4], the lowest first, as float32; XLA cannot tell the shape of the bitcast that does it where one is symbolic."""
    words = [parts[..., i].astype(jnp.uint32) << (8 * i) for i in range(SCALE_BYTES)]
    return jax.lax.bitcast_convert_type(words[0] | words[1] | words[2] | words[3], jnp.float32)


def parts_of(values: jax.Array) -> jax.Array:
    """`floats` undone: float32 [..., G] as bytes [..., 4 G]."""
    words = jax.lax.bitcast_convert_type(values, jnp.uint32)
    parts = jnp.stack([(words >> (8 * i)) & 0xFF for i in range(SCALE_BYTES)], axis=-1).astype(jnp.uint8)
    return parts.reshape(*values.shape[:-1], SCALE_BYTES * values.shape[-1])


def owner_of(shape: tuple[int, ...], head: int, groups: int, preshuffle: bool) -> np.ndarray:
    """int ``[bs, W]``: the place in its block whose key or scale each byte is of; bs for padding."""
    size, width = shape
    owner = np.full(size * width, size)
    place = np.arange(size)
    owner[key_bytes(place, head, preshuffle)] = place[:, None]
    owner[scale_bytes(place, size, head, groups)] = place[:, None]
    return owner.reshape(shape)
