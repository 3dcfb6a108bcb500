"""A step as bytes: what process 0 says to the others."""

from typing import Any

import jax
import numpy as np

from examples.layers.parts import Batch
from examples.llm.serving.runner import empty
from examples.llm.serving.settings import Settings, Shape


def to_bytes(settings: Settings, tokens: Any, batch: Batch, rows: Any) -> bytes:
    """A step's int32 arrays behind the number of its shape, of those of `settings`."""
    shape = Shape(len(tokens), len(batch.context_lens), batch.tables.shape[1], batch.cu_seqlens is None)
    arrays = jax.tree.leaves((tokens, batch, rows))
    return np.concatenate([[settings.shapes.index(shape)], *(np.asarray(x).ravel() for x in arrays)]).astype(np.int32).tobytes()


def from_bytes(settings: Settings, said: bytes, caches: Any) -> tuple[Any, Batch, Any, Any]:
    """What a step takes, with the caches where they stand among it."""
    numbers = np.frombuffer(said, np.int32)
    shape = settings.shapes[numbers[0]]
    like, tree = jax.tree.flatten((*empty(shape), np.zeros(shape.sequences, np.int32)))
    parts = np.split(numbers[1:], np.cumsum([x.size for x in like])[:-1])
    tokens, batch, rows = jax.tree.unflatten(tree, [p.reshape(x.shape) for p, x in zip(parts, like, strict=True)])
    return tokens, batch, caches, rows
