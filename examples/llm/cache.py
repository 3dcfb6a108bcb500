"""The paged caches of a model: for each layer keys and values, or latents, in blocks that any sequence may own."""

from typing import Any

import jax.numpy as jnp

from examples.llm.config import Config, Latent


def make(config: Config, blocks: int, block_size: int, dtype: Any) -> list[Any]:
    """One cache a layer: a pair ``[blocks, block_size, Hk, D]``, or ``[blocks, block_size, 1, rank + rotary]`` for MLA."""
    caches: list[Any] = []
    for layer in config.layers:
        a = layer.attention
        if isinstance(a, Latent):
            caches.append(jnp.zeros((blocks, block_size, 1, a.rank + a.rope_dim), dtype))
        else:
            caches.append(tuple(jnp.zeros((blocks, block_size, a.kv_heads, a.head_dim), dtype) for _ in "kv"))
    return caches
