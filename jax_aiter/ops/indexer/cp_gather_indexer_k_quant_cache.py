"""Read the indexer's keys of sequences, and their scales, out of its paged cache, packed: what `fp8_mqa_logits` scores."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, integers
from jax_aiter.core.reads import NOTHING, Reads
from jax_aiter.ops.attention import block_table
from jax_aiter.ops.attention.ragged import offset_checks, owners, some_sequence
from jax_aiter.ops.indexer import index_cache
from jax_aiter.ops.quant.numerics import fp8

OP = "cp_gather_indexer_k_quant_cache"


def _abstract(dims, *, total_tokens, head_dim, quant_block_size, preshuffle, quant_dtype, **_):
    block_table.check_offsets(OP, "cu_seq_lens", dims["Bp"], dims["B"], "block_table")
    groups = index_cache.groups(OP, head_dim, quant_block_size)
    index_cache.check_cache(OP, dims, head_dim, groups, preshuffle)
    shapes = ((total_tokens, head_dim), quant_dtype), ((total_tokens, groups), jnp.float32)
    return tuple(jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes)


def rows(kv_cache, block_table, cu_seq_lens, total_tokens: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Block and place of each row's token, and whether there is one."""
    (blocks, size, _), columns = kv_cache.shape, block_table.shape[1]
    cu_seq_lens, block_table = some_sequence(cu_seq_lens, block_table)
    if columns == 0:
        block_table = jnp.full((block_table.shape[0], 1), -1, jnp.int32)
    own = owners(cu_seq_lens, total_tokens)
    column, place = own.offset // size, own.offset % size
    block = block_table[own.sequence, jnp.clip(column, 0, block_table.shape[1] - 1)]
    held = own.owned & (own.offset >= 0) & (column < columns) & (block >= 0) & (block < blocks)
    return jnp.clip(block, 0, blocks - 1), place, held


def _reference(
    *, kv_cache, block_table, cu_seq_lens, total_tokens, head_dim, quant_block_size, preshuffle, quant_dtype
):  # fmt: skip
    _, size, width = kv_cache.shape
    groups = head_dim // quant_block_size
    block, place, held = rows(kv_cache, block_table, cu_seq_lens, total_tokens)
    keys, scales = index_cache.key_bytes(place, head_dim, preshuffle), index_cache.scale_bytes(place, size, head_dim, groups)
    byte = jnp.concatenate([keys, scales], axis=-1)
    found = jnp.where(held[:, None], kv_cache[block[:, None], byte // width, byte % width], 0)
    scale = index_cache.floats(found[:, head_dim:].reshape(total_tokens, groups, index_cache.SCALE_BYTES))
    return jax.lax.bitcast_convert_type(found[:, :head_dim], quant_dtype), scale


def _reads(*, kv_cache, block_table, cu_seq_lens, total_tokens, head_dim, quant_block_size, preshuffle, **_):
    """One group per row, of both results."""
    blocks, size, width = kv_cache.shape
    owner = index_cache.owner_of((size, width), head_dim, head_dim // quant_block_size, preshuffle)
    used, known = np.zeros(block_table.shape, bool), np.zeros(total_tokens, bool)
    cache = np.zeros((total_tokens, blocks, size, width), bool)
    for b, (first, end) in enumerate(itertools.pairwise(cu_seq_lens)):
        for t in range(max(first, 0), min(end, total_tokens)):
            column, place = divmod(t - first, size)
            if 0 <= column < block_table.shape[1]:
                used[b, column] = True
                block = block_table[b, column]
                if 0 <= block < blocks:
                    cache[t, block], known[t] = owner == place, True
    label = np.where(known, np.arange(total_tokens), NOTHING)[:, None]
    return Reads(total_tokens, {"k": label, "scales": label}, {"kv_cache": cache, "block_table": used[None]})


def _data_checks(*, kv_cache, block_table, cu_seq_lens, total_tokens, **_):
    (blocks, size, _), columns = kv_cache.shape, block_table.shape[1]
    lengths = jnp.diff(cu_seq_lens)
    used = jnp.arange(columns) * size < lengths[:, None]
    return {
        **offset_checks("cu_seq_lens", cu_seq_lens, total_tokens),
        f"no sequence may have more than {columns} x {size} tokens, what block_table has room for": lengths > columns * size,
        f"block_table must be in [0, {blocks}) where a token is read": used & ((block_table < 0) | (block_table >= blocks)),
    }


CP_GATHER_INDEXER_K_QUANT_CACHE = Op(
    name=OP,
    family="ATTENTION",
    mirrors="aiter.cp_gather_indexer_k_quant_cache (csrc/kernels/cache_kernels.cu)",
    operands={
        "kv_cache": Arg("nb bs W", ("uint8",)),
        "block_table": Arg("B M", INT32),
        "cu_seq_lens": Arg("Bp", INT32),
    },
    results={"k": "N D", "scales": "N G"},
    abstract=_abstract,
    reference=_reference,
    fixed=("bs", "W"),
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "two_sequences",
            # Bytes of scales too: below 64 each, so that every one is a small positive float.
            kv_cache=integers(5, 4, 132, low=0, high=60, dtype=jnp.uint8),
            block_table=constant([[3, 1], [4, 0]], jnp.int32),
            cu_seq_lens=constant([0, 7, 8], jnp.int32),
            total_tokens=9,
            head_dim=128,
            quant_block_size=128,
            preshuffle=False,
            quant_dtype=np.dtype(jnp.float8_e4m3fnuz),
        ),
        case(
            "preshuffled",
            kv_cache=integers(3, 16, 40, low=0, high=60, dtype=jnp.uint8),
            block_table=constant([[2, 0]], jnp.int32),
            cu_seq_lens=constant([0, 19], jnp.int32),
            total_tokens=19,
            head_dim=32,
            quant_block_size=32,
            preshuffle=True,
            quant_dtype=np.dtype(jnp.float8_e4m3fn),
        ),
        case(
            "odd_two_scales",
            kv_cache=integers(4, 3, 15, low=0, high=60, dtype=jnp.uint8),
            block_table=constant([[1], [3], [0]], jnp.int32),
            cu_seq_lens=constant([0, 0, 3, 4], jnp.int32),
            total_tokens=4,
            head_dim=6,
            quant_block_size=3,
            preshuffle=False,
            quant_dtype=np.dtype(jnp.float8_e4m3fnuz),
        ),
    ],
)


@public
def cp_gather_indexer_k_quant_cache(
    kv_cache: jax.Array,
    block_table: jax.Array,
    cu_seq_lens: jax.Array,
    *,
    total_tokens: int,
    head_dim: int = 128,
    quant_block_size: int = 128,
    preshuffle: bool = False,
    quant_dtype: Any = "fp8",
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Keys and scales of each sequence's cached tokens, packed one sequence after the other.

    Args:
      kv_cache: uint8 ``[nb, bs, W]``, as `indexer_k_quant_and_cache` writes it with the same `quant_block_size` and `preshuffle`.
      block_table: ``[B, M]`` int32: the blocks of each sequence.
      cu_seq_lens: ``[B + 1]`` int32 from 0: sequence b has rows ``cu_seq_lens[b] .. cu_seq_lens[b + 1] - 1`` of the results.
      total_tokens: static, N, the rows of the results. Those of no sequence are zeros, with scale 0.
      head_dim, quant_block_size: static: D, the size of a key, and the elements that share a scale.
      preshuffle: static; bs and D must then be multiples of 16.
      quant_dtype: static, what the cache holds: ``"fp8"`` (the target's e4m3 type) or one of the two.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(k, scales)``: fp8 ``[N, D]`` and float32 ``[N, D / quant_block_size]``; `fp8_mqa_logits` takes ``k`` and
      ``scales[:, 0]``. A row whose position lies outside of the table, or whose block outside of the cache, is zeros.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad offsets and blocks.
    Mirrors ``aiter.cp_gather_indexer_k_quant_cache``.
    """
    k, scales = CP_GATHER_INDEXER_K_QUANT_CACHE(
        kv_cache=kv_cache,
        block_table=block_table,
        cu_seq_lens=cu_seq_lens,
        total_tokens=check.integer(OP, "total_tokens", total_tokens, 0),
        head_dim=check.integer(OP, "head_dim", head_dim, 1),
        quant_block_size=check.integer(OP, "quant_block_size", quant_block_size, 1),
        preshuffle=check.boolean(OP, "preshuffle", preshuffle),
        quant_dtype=fp8(OP, quant_dtype),
        implementation=implementation,
    )
    return k, scales
