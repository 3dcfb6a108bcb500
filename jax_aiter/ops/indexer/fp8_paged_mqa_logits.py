"""Scores of sparse attention's indexer: many query heads over one fp8 key per token, in a paged cache."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import case, constant, integers, normal, uniform
from jax_aiter.core.reads import NOTHING, Reads, at, grid, spread
from jax_aiter.ops.attention.block_table import query_checks
from jax_aiter.ops.cache import paged_reads as paged
from jax_aiter.ops.indexer import index_cache
from jax_aiter.ops.indexer.fp8_mqa_logits import head_sum
from jax_aiter.ops.shared.search import search

OP = "fp8_paged_mqa_logits"


def _abstract(dims, *, q, kv_cache, weights, block_tables, context_lens, cu_seqlens_q, preshuffle=False):
    index_cache.check_cache(OP, dims, dims["D"], 1, preshuffle)
    sequences, tokens = dims["B"], dims["T"]
    if cu_seqlens_q is None and (tokens if sequences == 0 else tokens % sequences):
        rule = "without cu_seqlens_q every sequence has equally many"
        raise ValueError(f"{OP}: dimension 0 of q is {tokens}, must be a multiple of B = {sequences}: {rule}")
    if cu_seqlens_q is not None and cu_seqlens_q.shape[0] != sequences + 1:
        raise ValueError(f"{OP}: dimension 0 of cu_seqlens_q is {cu_seqlens_q.shape[0]}, must be B + 1 = {sequences + 1}")
    return (jax.ShapeDtypeStruct((tokens, dims["N"] * dims["bs"]), jnp.float32),)


def rows(tokens: int, length: int, context_lens: jax.Array, cu_seqlens_q: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """For each token the sequence it belongs to, and how many keys it sees: those up to its own position, its own included."""
    sequences, token = context_lens.shape[0], jnp.arange(tokens, dtype=jnp.int32)
    if sequences == 0:
        return jnp.zeros_like(token), jnp.zeros_like(token)
    if cu_seqlens_q is None:
        cu_seqlens_q = jnp.arange(sequences + 1, dtype=jnp.int32) * (tokens // sequences)
    sequence = jnp.clip(search(cu_seqlens_q, token, side="right") - 1, 0, sequences - 1)
    behind = cu_seqlens_q[sequence + 1] - 1 - token  # tokens of the sequence after this one
    inside = (token >= cu_seqlens_q[0]) & (behind >= 0)
    return sequence, jnp.where(inside, jnp.clip(context_lens[sequence] - behind, 0, length), 0)


def _reference(*, q, kv_cache, weights, block_tables, context_lens, cu_seqlens_q, preshuffle=False):
    (tokens, _, dim), (_, size, _) = q.shape, kv_cache.shape
    length = block_tables.shape[1] * size
    if context_lens.shape[0] == 0:
        return (jnp.full((tokens, length), -jnp.inf, jnp.float32),)
    sequence, ends = rows(tokens, length, context_lens, cu_seqlens_q)

    def scores(one):
        q, weight, sequence, end = one
        blocks = jnp.take(kv_cache, block_tables[sequence], axis=0, mode="clip").reshape(block_tables.shape[1], -1)
        keys = index_cache.keys_of(blocks, size, dim, preshuffle).reshape(length, dim)
        scale = index_cache.floats(blocks[:, size * dim : size * (dim + index_cache.SCALE_BYTES)].reshape(length, -1))
        found = head_sum(q, jax.lax.bitcast_convert_type(keys, q.dtype), scale, weight)
        return jnp.where(jnp.arange(length) < end, found, -jnp.inf)

    # One token at a time: its sequence's keys are the largest thing held.
    return (jax.lax.map(scores, (q, weights, sequence, ends)),)


def _data_checks(*, q, kv_cache, block_tables, context_lens, cu_seqlens_q, **_):
    (blocks, size, _), columns = kv_cache.shape, block_tables.shape[1]
    used = jnp.arange(columns) * size < context_lens[:, None]
    rules = {
        f"context_lens must be in [0, {columns * size}]": (context_lens < 0) | (context_lens > columns * size),
        f"block_tables must be in [0, {blocks}) below the context length": used & ((block_tables < 0) | (block_tables >= blocks)),
    }
    if cu_seqlens_q is not None:
        rules |= query_checks("cu_seqlens_q", cu_seqlens_q, context_lens, q.shape[0])
    return rules


def _reads(*, q, kv_cache, weights, block_tables, context_lens, cu_seqlens_q, preshuffle=False):
    """One group per logit: a token's heads and the bytes of one key and its scale."""
    (blocks, size, width), (tokens, _, dim) = kv_cache.shape, q.shape
    sequences, columns = block_tables.shape
    offsets = np.arange(sequences + 1) * (tokens // sequences) if cu_seqlens_q is None else cu_seqlens_q
    sees, owner = paged.ragged(tokens, offsets, context_lens)
    sees = np.pad(sees, ((0, 0), (0, columns * size)))[:, : columns * size]
    token, key = grid(tokens, columns * size)
    block = block_tables[np.maximum(owner, 0)[token], key // size]
    own = index_cache.owner_of((size, width), dim, 1, preshuffle).reshape(-1) == (key % size)[:, None]
    found = {
        "q": spread(at(token, tokens), None, None),
        "weights": spread(at(token, tokens), None),
        "kv_cache": (at(block, blocks)[:, :, None] & own[:, None]).reshape(-1, *kv_cache.shape),
        "block_tables": (np.arange(columns) * size < context_lens[:, None])[None],
    }
    return Reads(len(token), {"logits": np.where(sees, np.arange(len(token)).reshape(sees.shape), NOTHING)}, found)


FP8_PAGED_MQA_LOGITS = Op(
    name=OP,
    family="ATTENTION",
    mirrors="aiter.ops.triton.attention.pa_mqa_logits.deepgemm_fp8_paged_mqa_logits",
    operands={
        "q": Arg("T H D", FP8_TYPES),
        "kv_cache": Arg("nb bs W", ("uint8",)),
        "weights": Arg("T H", ("float32",)),
        "block_tables": Arg("B N", INT32),
        "context_lens": Arg("B", INT32),
        "cu_seqlens_q": Arg("B1", INT32, optional=True),
    },
    results={"logits": "T L"},
    abstract=_abstract,
    reference=_reference,
    infinite=("logits",),
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "decode",
            q=normal(2, 4, 8, dtype=jnp.float8_e4m3fnuz),
            # Bytes of scales too: below 64 each, so that every one is a small positive float.
            kv_cache=integers(3, 4, 12, low=0, high=60, dtype=jnp.uint8),
            weights=uniform(2, 4, low=0.1, high=1.0),
            block_tables=constant([[2, 0], [1, 1]], jnp.int32),
            context_lens=constant([7, 1], jnp.int32),
            preshuffle=False,
        ),
        case(
            "ragged",
            q=normal(3, 2, 8, dtype=jnp.float8_e4m3fn),
            kv_cache=integers(2, 2, 16, low=0, high=60, dtype=jnp.uint8),
            weights=uniform(3, 2, low=0.1, high=1.0),
            block_tables=constant([[1, 0], [0, 5]], jnp.int32),
            context_lens=constant([4, 1], jnp.int32),
            cu_seqlens_q=constant([0, 2, 3], jnp.int32),
            preshuffle=False,
        ),
        case(
            "preshuffled",
            q=normal(2, 2, 16, dtype=jnp.float8_e4m3fnuz),
            kv_cache=integers(3, 16, 20, low=0, high=60, dtype=jnp.uint8),
            weights=uniform(2, 2, low=0.1, high=1.0),
            block_tables=constant([[1, 2]], jnp.int32),
            context_lens=constant([19], jnp.int32),
            preshuffle=True,
        ),
    ],
)


@public
def fp8_paged_mqa_logits(
    q: jax.Array,
    kv_cache: jax.Array,
    weights: jax.Array,
    block_tables: jax.Array,
    context_lens: jax.Array,
    *,
    cu_seqlens_q: jax.Array | None = None,
    preshuffle: bool = False,
    implementation: str | None = None,
) -> jax.Array:
    """``logits[t, s] = Σ_h weights[t, h] * relu(q[t, h] · key[s] * scale[s])`` for the keys s that token t sees, else -inf.

    Args:
      q: fp8 ``[T, H, D]`` queries of the indexer (of the target's family); their scale and the softmax scale belong into `weights`.
      kv_cache: uint8 ``[nb, bs, W]``, W >= D + 4, as `indexer_k_quant_and_cache` writes it: each block is bs keys of D fp8 bytes,
        then bs float32 scales, then padding.
      weights: float32 ``[T, H]``.
      block_tables: int32 ``[B, N]``, the blocks of each sequence; entries behind its length are not used.
      context_lens: int32 ``[B]``, keys of each sequence, its new tokens included; counts as at most N * bs.
      cu_seqlens_q: int32 ``[B + 1]``, ascending: the tokens ``cu_seqlens_q[b]`` up to ``cu_seqlens_q[b + 1]`` are the last ones of
        sequence b. None: T / B tokens each. Tokens of no sequence see nothing.
      preshuffle: static: the cache's keys lie in tiles of 16 by 16; bs and D must then be multiples of 16.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      float32 ``[T, N * bs]``, column s for the sequence's s-th key. Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.triton.attention.pa_mqa_logits.deepgemm_fp8_paged_mqa_logits``.
    """
    (logits,) = FP8_PAGED_MQA_LOGITS(
        q=q,
        kv_cache=kv_cache,
        weights=weights,
        block_tables=block_tables,
        context_lens=context_lens,
        cu_seqlens_q=cu_seqlens_q,
        preshuffle=check.boolean(OP, "preshuffle", preshuffle),
        implementation=implementation,
    )
    return logits
