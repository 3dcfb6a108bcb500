"""The tables of cosines and sines that a model's layers look up; made once, outside of any program."""

from typing import Any

import jax

import jax_aiter
from examples.llm.architectures import Json, complete, has_layer_ropes
from examples.llm.config import Config

Tables = dict[str, tuple[jax.Array, jax.Array]]


def tables(raw: Json, config: Config, length: int | None = None) -> Tables:
    """One pair for each name in ``Attention.rope``, of `length` positions (None: as many as the model has)."""
    c: dict[str, Any] = complete(raw)
    names = {layer.attention.rope for layer in config.layers} - {None}
    split = has_layer_ropes(c)
    return {str(n): jax_aiter.rope_tables(c, length, layer_type=str(n) if split else None) for n in sorted(map(str, names))}
