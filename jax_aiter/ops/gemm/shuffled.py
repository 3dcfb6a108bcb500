"""The wrapper that keeps a shuffled weight from being taken for a plain one.

It stands apart from the op that makes it because `import jax_aiter` brings it in: a program exported with such a weight in its
signature names it, and is read back in a process that has used no op yet.
"""

import dataclasses
import json
import math

import jax
import numpy as np
from jax import export


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ShuffledWeight:
    """A weight whose bytes are in a preshuffled order; `shape` and `dtype` are those of the plain weight.

    A pytree with one leaf, so it goes through `jax.jit`, `jax.vmap`, `jax.shard_map`, `jax.export` and checkpoints like an array.
    An op that wants another layout raises instead of computing with garbage. Slicing experts (the leading axes) of `data` is
    meaningful, slicing rows or columns is not.
    """

    data: jax.Array
    layout: tuple[int, int] = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def unshuffle(self, *, implementation: str | None = None) -> jax.Array:
        """The plain weight."""
        from jax_aiter.ops import catalogue  # brings in no op before it is asked for one

        return catalogue.named("shuffle_weight")(w=self.data, layout=self.layout, inverse=True, implementation=implementation)[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ShuffledScale:
    """Block scales in the order of `e8m0_shuffle`, padded to whole tiles. A pytree with one leaf.

    data: uint8 ``[..., rows, groups]``, rows a multiple of 256 and groups of 8.
    """

    data: jax.Array

    def unshuffle(self, rows: int, groups: int) -> jax.Array:
        """The plain scales ``[..., rows, groups]``."""
        *lead, height, width = self.data.shape
        tiles = self.data.reshape(*lead, height // 32, width // 8, 4, 16, 2, 2)
        n = len(lead)
        order = (*range(n), n, n + 5, n + 3, n + 1, n + 4, n + 2)
        return tiles.transpose(order).reshape(*lead, height, width)[..., :rows, :groups]


def _read(text: bytes | bytearray) -> tuple[tuple[int, int]]:
    rows, columns = json.loads(bytes(text))
    return ((rows, columns),)


# The name and the text are part of serialised programs and stay readable. A dataclass has its static fields as auxiliary data.
export.register_pytree_node_serialization(
    ShuffledWeight,
    serialized_name="jax_aiter.ShuffledWeight",
    serialize_auxdata=lambda fields: json.dumps(fields[0]).encode(),
    deserialize_auxdata=_read,
)
export.register_pytree_node_serialization(
    ShuffledScale,
    serialized_name="jax_aiter.ShuffledScale",
    serialize_auxdata=lambda fields: b"",
    deserialize_auxdata=lambda text: (),
)
