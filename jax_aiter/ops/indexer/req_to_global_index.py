"""Positions in sequences as slots of a paged cache."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check

OP = "req_to_global_index"


@public
def req_to_global_index(req_id: jax.Array, block_table: jax.Array, token_indices: jax.Array, *, block_size: int) -> jax.Array:
    """The slots ``block_table[req_id[t], i // block_size] * block_size + i % block_size`` of positions ``i = token_indices[t, j]``.

    Args:
      req_id: int32 ``[T]``, the sequence of each token.
      block_table: int32 ``[B, M]``, the blocks of each sequence.
      token_indices: int32 ``[T, k]``, positions in the token's sequence, as `sparse_attn_indexer` gives them.
      block_size: static, tokens to a block.

    Returns:
      int32 ``[T, k]``, what `mla_sparse_fwd` takes; -1 for a position below 0 or past the table, for a sequence that is none, and
      where the table holds a number below 0.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters. Mirrors vLLM's
    ``triton_convert_req_index_to_global_index``, which feeds ``aiter.mla.mla_decode_fwd``.
    """
    size = check.integer(OP, "block_size", block_size, 1)
    for name, x, rank in (("req_id", req_id, 1), ("block_table", block_table, 2), ("token_indices", token_indices, 2)):
        if x.dtype != jnp.int32:
            raise TypeError(f"{OP}: {name} has dtype {x.dtype.name}, must be int32")
        if x.ndim != rank:
            raise ValueError(f"{OP}: {name} must have {rank} dimension{'s' * (rank > 1)}, got shape {x.shape}")
    if req_id.shape[0] != token_indices.shape[0]:
        raise ValueError(
            f"{OP}: req_id has {req_id.shape[0]} elements, must be dimension 0 of token_indices, {token_indices.shape[0]}"
        )
    sequences, columns = block_table.shape
    if sequences == 0 or columns == 0:
        return jnp.full_like(token_indices, -1)
    column = jnp.where(token_indices < 0, -1, token_indices // size)
    block = block_table[jnp.clip(req_id, 0, sequences - 1)[:, None], jnp.clip(column, 0, columns - 1)]
    there = ((req_id >= 0) & (req_id < sequences))[:, None] & (column >= 0) & (column < columns) & (block >= 0)
    return jnp.where(there, block * size + token_indices % size, -1)
