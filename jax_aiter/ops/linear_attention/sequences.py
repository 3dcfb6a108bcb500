"""Where a linear attention's sequences lie: one for each row of a batch, or packed in one row; both as chunks of equal size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.ops.attention.ragged import some_sequence, tiles


class Rows:
    """``[B, T, ...]``: sequence b is row b."""

    def __init__(self, tokens: int, size: int):
        self.tokens, self.size, self.count = tokens, size, (tokens + size - 1) // size

    def chunks(self, x: jax.Array) -> jax.Array:
        """``[B, T, H, ...]`` -> ``[chunks, B, H, C, ...]``, zeros behind the last token."""
        padded = jnp.pad(x, ((0, 0), (0, self.count * self.size - self.tokens), *[(0, 0)] * (x.ndim - 2)))
        return jnp.moveaxis(padded.reshape(x.shape[0], self.count, self.size, *x.shape[2:]), (1, 3), (0, 2))

    def tokens_of(self, x: jax.Array) -> jax.Array:
        """``[chunks, B, H, C, V]`` -> ``[B, T, H, V]``."""
        x = jnp.moveaxis(x, (0, 2), (1, 3))
        return x.reshape(x.shape[0], self.count * self.size, *x.shape[3:])[:, : self.tokens]


class Turn(NamedTuple):
    """Of each chunk of packed sequences: which sequence, whether it begins there, whether there is a token."""

    sequence: jax.Array
    first: jax.Array
    there: jax.Array


class Packed:
    """``[1, T, ...]``: sequence n is tokens ``cu_seqlens[n] .. cu_seqlens[n + 1] - 1``."""

    def __init__(self, cu_seqlens: jax.Array, tokens: int, size: int):
        self.cut, self.place = tiles(some_sequence(cu_seqlens)[0], tokens, size)
        cut = self.cut
        self.turns = Turn(cut.sequence, cut.owned[:, 0] & (cut.offset[:, 0] == 0), cut.owned[:, 0])

    def chunks(self, x: jax.Array) -> jax.Array:
        """``[1, T, H, ...]`` -> ``[chunks, 1, H, C, ...]``, zeros for no token."""
        if not x.shape[1]:
            return jnp.zeros((*self.cut.token.shape, *x.shape[2:]), x.dtype)[:, None].swapaxes(2, 3)
        taken = x[0][self.cut.token]
        owned = self.cut.owned.reshape(*self.cut.owned.shape, *[1] * (x.ndim - 2))
        return jnp.where(owned, taken, jnp.zeros((), x.dtype))[:, None].swapaxes(2, 3)

    def tokens_of(self, x: jax.Array) -> jax.Array:
        """``[chunks, 1, H, C, V]`` -> ``[1, T, H, V]``, zeros for tokens of no sequence."""
        rows = jnp.moveaxis(x[:, 0], 1, 2)
        rows = rows.reshape(rows.shape[0] * rows.shape[1], *rows.shape[2:])
        there = self.place < rows.shape[0]
        taken = rows[jnp.minimum(self.place, rows.shape[0] - 1)]
        return jnp.where(there[:, None, None], taken, jnp.zeros((), x.dtype))[None]
