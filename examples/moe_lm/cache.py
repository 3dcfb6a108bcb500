"""The paged KV cache: a pool of blocks per layer, and the allocator that deals them out."""

from typing import Any

import jax
import jax.numpy as jnp

from examples.moe_lm.model import Config

Cache = list[tuple[jax.Array, jax.Array]]


def make(config: Config, blocks: int, block_size: int, dtype: Any) -> Cache:
    """Per layer, keys and values: ``[blocks, block_size, kv_heads, head_dim]`` in layout "NHD".

    In "asm" a run of 16 bytes is x entries: keys ``[blocks, kv_heads, head_dim / x, block_size, x]``, values
    ``[blocks, kv_heads, block_size / x, head_dim, x]``.
    """
    heads, dim = config.kv_heads, config.head_dim
    keys = values = (blocks, block_size, heads, dim)
    if config.kv_layout == "asm":
        x = 16 // jnp.dtype(dtype).itemsize
        keys, values = (blocks, heads, dim // x, block_size, x), (blocks, heads, block_size // x, dim, x)
    return [(jnp.zeros(keys, dtype), jnp.zeros(values, dtype)) for _ in range(config.layers)]


def block_size(cache: Cache, kv_layout: str) -> int:
    return cache[0][0].shape[3 if kv_layout == "asm" else 1]


class BlockAllocator:
    """Free blocks, last freed first out, so that a running server hands out blocks in no particular order."""

    def __init__(self, blocks: int):
        self._free = list(range(blocks))[::-1]

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        if count > len(self._free):
            raise ValueError(f"{count} cache blocks wanted, {len(self._free)} are free")
        return [self._free.pop() for _ in range(count)]

    def give_back(self, blocks: list[int]) -> None:
        self._free.extend(blocks)
