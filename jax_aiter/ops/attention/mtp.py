"""Packed queries of decoding with multi-token prediction, laid out with the same number of rows for every sequence."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jax_aiter.ops.attention.ragged import owners


def align(query: jax.Array, qo_indptr: jax.Array, max_qlen: int) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """Queries [T, ...] as [B, max_qlen, ...], each sequence's at the end of its rows, and the function that packs results again.

    Row i is then at position ``context_len - max_qlen + i`` of its sequence, whatever the number of its queries. Rows in front of
    a sequence's queries hold some other query. Of a sequence with more than `max_qlen` queries the last ones are taken; packing
    gives zeros for the others and for tokens of no sequence.
    """
    tokens, sequences = query.shape[0], qo_indptr.shape[0] - 1
    ends = qo_indptr[1:, None]
    token = ends - max_qlen + jnp.arange(max_qlen, dtype=jnp.int32)
    aligned = query[jnp.clip(token, 0, max(tokens - 1, 0))]
    owner = owners(qo_indptr, tokens, "compare_all")  # few tokens: a bisection would be a loop of tiny kernels
    row = max_qlen - qo_indptr[owner.sequence + 1] + qo_indptr[owner.sequence] + owner.offset
    taken = owner.owned & (row >= 0)
    place = jnp.clip(owner.sequence * max_qlen + row, 0, sequences * max_qlen - 1)

    def pack(x: jax.Array) -> jax.Array:
        """[B, max_qlen, ...] -> [T, ...]."""
        rows = x.reshape(sequences * max_qlen, *x.shape[2:])[place]
        return jnp.where(taken.reshape(-1, *[1] * (rows.ndim - 1)), rows, 0)

    return aligned, pack


def causal_end(lengths: jax.Array, max_qlen: int) -> jax.Array:
    """[B, max_qlen]: how many keys each aligned row sees, at most 0 for rows in front of the sequence's beginning."""
    return lengths[:, None] - (max_qlen - 1 - jnp.arange(max_qlen, dtype=jnp.int32))
