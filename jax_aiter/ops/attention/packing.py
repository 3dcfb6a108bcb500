"""Packed sequences as attention takes them: one long sequence under a mask, or each in a row of its own, filled up with zeros.

A CPU skips the blocks of keys that a mask hides, so it takes them as they lie. A GPU computes every score of a step (`rows`): there
rows of max_seqlen are fewer scores where there are several sequences.
"""

import jax
import jax.numpy as jnp

from jax_aiter.core import machine, symbolic
from jax_aiter.ops.attention.flash_attention_bwd import grouped_slopes
from jax_aiter.ops.attention.forms.visible import Keys, visible_keys
from jax_aiter.ops.attention.ragged import owners, some_sequence


def group(x: jax.Array, kv_heads: int) -> jax.Array:
    """[T, Hq, D] -> [1, Hk, G, T, D]."""
    t, hq, d = x.shape
    return x.reshape(t, kv_heads, hq // max(kv_heads, 1), d).transpose(1, 2, 0, 3)[None]


def merge(x: jax.Array) -> jax.Array:
    """[1, Hk, G, T, D] -> [T, Hq, D]."""
    _, hk, g, t, d = x.shape
    return x[0].transpose(2, 0, 1, 3).reshape(t, hk * g, d)


def packed_keys(cu_q, cu_k, queries: int, causal: bool, window: tuple[int, int], chunk: int = 0) -> tuple[Keys, jax.Array]:
    """The packed keys each packed query sees, and the sequence of each query."""
    (cu_q,), (cu_k,) = some_sequence(cu_q), some_sequence(cu_k)
    owner = owners(cu_q, queries)
    first, length = cu_k[owner.sequence], (cu_k[1:] - cu_k[:-1])[owner.sequence]
    position = owner.offset + length - (cu_q[1:] - cu_q[:-1])[owner.sequence]
    begin, end, diagonal, _ = visible_keys(position, first, length, causal, window, chunk)
    return Keys(jnp.where(owner.owned, begin, 0), jnp.where(owner.owned, end, 0), diagonal), owner.sequence


def packed_slopes(slopes, sequence, kv_heads: int):
    """[Hq] or [B, Hq] -> [1, Hk, G, 1 or T]."""
    if slopes is None:
        return None
    if slopes.ndim == 2 and not slopes.shape[0]:
        slopes = jnp.zeros((1, slopes.shape[1]), slopes.dtype)  # as `some_sequence` has one
    by_head = slopes[:, None] if slopes.ndim == 1 else slopes[sequence].T
    return by_head.reshape(1, kv_heads, by_head.shape[0] // max(kv_heads, 1), by_head.shape[1])


def packing(
    q, k, *, cu_seqlens_q, cu_seqlens_k, causal, sliding_window, max_seqlen_q, max_seqlen_k, attention_chunk_size=0, **_
):  # fmt: skip
    """The form that suits the machine; see `Packed`."""
    mask = causal, sliding_window, attention_chunk_size
    sequences, scores = cu_seqlens_q.shape[0] - 1, (q.shape[0], k.shape[0])
    fewer = symbolic.decided(lambda: 0 < sequences * max_seqlen_q * max_seqlen_k < scores[0] * scores[1])
    if machine.is_gpu() and fewer:
        return Padded((cu_seqlens_q, cu_seqlens_k), scores, (max_seqlen_q, max_seqlen_k), k.shape[1], mask)
    return Packed(cu_seqlens_q, cu_seqlens_k, q.shape[0], k.shape[1], mask)


class Packed:
    """One sequence of all tokens. queries: [Tq, Hq, D] -> [1, Hk, G, Tq, D]; keys: [Tk, Hk, D] -> [1, Hk, Tk, D]; and back."""

    def __init__(self, cu_q, cu_k, queries: int, kv_heads: int, mask):
        self.visible, self.sequence = packed_keys(cu_q, cu_k, queries, *mask)
        self.kv_heads = kv_heads

    def queries(self, x: jax.Array, kv_heads: int) -> jax.Array:
        return group(x, kv_heads)

    def keys(self, x: jax.Array) -> jax.Array:
        return x.swapaxes(0, 1)[None]

    def by_query(self, x: jax.Array, kv_heads: int) -> jax.Array:
        """[Hq, Tq] -> [1, Hk, G, Tq]."""
        return x.reshape(1, kv_heads, x.shape[0] // max(kv_heads, 1), x.shape[1])

    def slopes(self, slopes: jax.Array | None) -> jax.Array | None:
        return packed_slopes(slopes, self.sequence, self.kv_heads)

    def packed(self, x: jax.Array) -> jax.Array:
        return merge(x)

    def packed_keys(self, x: jax.Array) -> jax.Array:
        return x[0].swapaxes(0, 1)

    def packed_by_query(self, x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[1] * x.shape[2], x.shape[3])


class Padded:
    """A row of max_seqlen tokens per sequence: [B, Hk, G, Sq, D] and [B, Hk, Sk, D]. Tokens behind max_seqlen are left out."""

    def __init__(self, cu, tokens: tuple[int, int], longest: tuple[int, int], kv_heads: int, mask):
        self.cu, self.longest, self.kv_heads = cu, longest, kv_heads
        self.owner = tuple(map(owners, cu, tokens))
        cu_q, cu_k = cu
        count_q, count_k = cu_q[1:] - cu_q[:-1], (cu_k[1:] - cu_k[:-1])[:, None]
        index = jnp.arange(longest[0], dtype=jnp.int32)
        begin, end, diagonal, _ = visible_keys(index + count_k - count_q[:, None], 0, count_k, *mask)
        there = index < count_q[:, None]
        self.visible = Keys(jnp.where(there, begin, 0), jnp.where(there, end, 0), diagonal)

    def _rows(self, x: jax.Array, which: int) -> jax.Array:
        """[T, ...] -> [B, S, ...], zeros behind each sequence."""
        cu, size = self.cu[which], self.longest[which]
        index = jnp.arange(size, dtype=jnp.int32)
        there = index < (cu[1:] - cu[:-1])[:, None]
        taken = x[jnp.clip(cu[:-1, None] + index, 0, x.shape[0] - 1)]
        return jnp.where(there.reshape(*there.shape, *[1] * (x.ndim - 1)), taken, jnp.zeros((), x.dtype))

    def _tokens(self, x: jax.Array, which: int, absent: float = 0.0) -> jax.Array:
        """[B, S, ...] -> [T, ...], `absent` for tokens of no sequence."""
        owner, size = self.owner[which], self.longest[which]
        there = owner.owned & (owner.offset < size)
        taken = x[owner.sequence, jnp.clip(owner.offset, 0, size - 1)]
        return jnp.where(there.reshape(-1, *[1] * (taken.ndim - 1)), taken, jnp.asarray(absent, x.dtype))

    def queries(self, x: jax.Array, kv_heads: int) -> jax.Array:
        rows = self._rows(x, 0)
        return rows.reshape(*rows.shape[:2], kv_heads, x.shape[1] // max(kv_heads, 1), x.shape[2]).transpose(0, 2, 3, 1, 4)

    def keys(self, x: jax.Array) -> jax.Array:
        return self._rows(x, 1).swapaxes(1, 2)

    def by_query(self, x: jax.Array, kv_heads: int) -> jax.Array:
        rows = self._rows(x.swapaxes(0, 1), 0)
        return rows.reshape(*rows.shape[:2], kv_heads, x.shape[0] // max(kv_heads, 1)).transpose(0, 2, 3, 1)

    def slopes(self, slopes: jax.Array | None) -> jax.Array | None:
        return grouped_slopes(slopes, self.kv_heads)

    def packed(self, x: jax.Array) -> jax.Array:
        b, hk, g, s, d = x.shape
        return self._tokens(x.transpose(0, 3, 1, 2, 4).reshape(b, s, hk * g, d), 0)

    def packed_keys(self, x: jax.Array) -> jax.Array:
        return self._tokens(x.swapaxes(1, 2), 1)

    def packed_by_query(self, x: jax.Array) -> jax.Array:
        b, hk, g, s = x.shape
        return self._tokens(x.transpose(0, 3, 1, 2).reshape(b, s, hk * g), 0, -jnp.inf).swapaxes(0, 1)
