"""A decoder of layers that are alike, in a loop over them: XLA compiles one layer, however many there are.

The loop hands on one cache for all layers, of which each has its own blocks: block tables and slots are moved to them, and the op
that writes the cache writes it where it lies. Caches stacked along a layer's axis would be cut out and put back in every turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from examples.layers.parts import Batch
from examples.llm.config import Config
from examples.llm.decoder import Params

#: ``(parameters of a layer, delta, x, batch, cache) -> (delta, x, cache)``
Layer = Callable[[Any, jax.Array, jax.Array, Batch, Any], tuple[jax.Array, jax.Array, Any]]


def stacked(params: Params) -> Params:
    """With the layers' parameters along a first axis."""
    return {**params, "layers": jax.tree.map(lambda *of: jnp.stack(of), *params["layers"])}


def pooled(config: Config, caches: list[Any]) -> Any:
    """The layers' caches one behind the other."""
    kinds = len(set(config.layers))
    if kinds != 1:
        raise ValueError(f"the {len(config.layers)} layers of {config.model_type} are of {kinds} kinds, a loop over them needs one")
    return jax.tree.map(lambda *of: jnp.concatenate(of), *caches)


def layers(params: Params, layer: Layer, x: jax.Array, batch: Batch, cache: Any) -> tuple[jax.Array, jax.Array, Any]:
    """``(delta, x, cache)`` after all of them."""
    count = len(jax.tree.leaves(params["layers"])[0])
    blocks, block = (n // count if i == 0 else n for i, n in enumerate(jax.tree.leaves(cache)[0].shape[:2]))

    def one(carry: Any, of: tuple[Any, jax.Array]) -> tuple[Any, None]:
        (p, number), (delta, x, cache) = of, carry
        slots = jnp.where(batch.slots < 0, batch.slots, batch.slots + number * blocks * block)
        return layer(p, delta, x, batch._replace(slots=slots, tables=batch.tables + number * blocks), cache), None

    return jax.lax.scan(one, (jnp.zeros_like(x), x, cache), (params["layers"], jnp.arange(count, dtype=jnp.int32)))[0]
