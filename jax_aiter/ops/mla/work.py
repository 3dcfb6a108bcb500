"""The work list of a persistent MLA kernel, built on the device: which workgroup takes which keys of which tile.

AITER's get_mla_metadata_v1 walks over workgroups and sequences one after the other. Here all costs lie on one line, cut at
every tile and at equal shares, which is the same balance (cost: blocks of 16 keys, and a constant for starting a tile)
without a loop.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.ops.mla.tiles import Tiles
from jax_aiter.ops.shared.running_sum import running_sum
from jax_aiter.ops.shared.search import search

BLOCK = 16  # AITER's kv_granularity
OVERHEAD = 16  # AITER's fixed_over_head_num_blocks for one-token pages


class WorkList(NamedTuple):
    """What the kernel reads, csrc/include/mla.h MlaWorkInfo; unused entries of `info` are zero.

    indptr: int32 [groups + 1], the works of every workgroup. info: int32 [works, 8]: tile, first row of its partial result,
    first and last query row, first and last key, keys after the last, 0. tile: int32 [works], `tiles` where unused.
    """

    indptr: jax.Array
    info: jax.Array
    tile: jax.Array


def capacity(tiles: Any, groups: int) -> Any:
    """Works at most: every cut begins one."""
    return tiles + groups - 1


def query_counts(qo_indptr: jax.Array, most: int) -> jax.Array:
    """Queries of every sequence, int32 [B]."""
    return jnp.clip(qo_indptr[1:] - qo_indptr[:-1], 0, most)


def token_bounds(kv_indptr: jax.Array, kv_last_page_lens: jax.Array, page: int) -> jax.Array:
    """int32 [B + 1]: the sequences in a list of all their tokens, from the bounds of their pages."""
    if page == 1:
        return kv_indptr
    count = kv_indptr[1:] - kv_indptr[:-1]
    length = jnp.where(count > 0, (count - 1) * page + jnp.clip(kv_last_page_lens, 1, page), 0)
    return jnp.concatenate([jnp.zeros(1, jnp.int32), running_sum(length)])


def decoding_work(qo_indptr: jax.Array, bounds: jax.Array, tiles: Tiles, most: int, causal: bool, groups: int) -> WorkList:
    """The list for decoding; bounds: `token_bounds`, most: max_seqlen_qo. Tiles without a query of the caller's have no works."""
    later = jnp.arange(tiles.count - 1, -1, -1, dtype=jnp.int32) * tiles.tokens
    keys = jnp.maximum((bounds[1:] - bounds[:-1])[:, None] - (later if causal else 0), 0)
    asked = query_counts(qo_indptr, most)[:, None] > later
    shape = (tiles.sequences, tiles.folds, tiles.count)
    keys = jnp.broadcast_to(jnp.where(asked, keys, 0)[:, None], shape)
    first = jnp.broadcast_to(bounds[:-1, None, None], shape)
    return work_list(first.reshape(-1), keys.reshape(-1), tiles.tokens, groups)


def work_list(first_key: jax.Array, keys: jax.Array, tokens: int, groups: int) -> WorkList:
    """first_key, keys: int32 [tiles], of every tile's sequence; tokens: query rows of a tile."""
    tiles, limit = keys.shape[0], capacity(keys.shape[0], groups)
    if isinstance(tiles, int) and tiles == 0:
        return WorkList(jnp.zeros(groups + 1, jnp.int32), jnp.zeros((limit, 8), jnp.int32), jnp.zeros(limit, jnp.int32))
    cost = jnp.where(keys > 0, -(-keys // BLOCK) + OVERHEAD, 0)
    line = running_sum(cost)
    begin, total = line - cost, line[-1]
    share = jnp.maximum(-(-total // groups), 1)
    shares = jnp.minimum(share * jnp.arange(1, groups, dtype=jnp.int32), total)
    start = jnp.sort(jnp.concatenate([begin, shares]))
    end = jnp.append(start[1:], total)
    tile = jnp.clip(search(begin, start, side="right", method="compare_all") - 1, 0, tiles - 1)

    def key(place: jax.Array) -> jax.Array:
        found = jnp.minimum(jnp.maximum(place - begin[tile] - OVERHEAD, 0) * BLOCK, keys[tile])
        # The causal mask of the last queries must lie in one work, as AITER's tail_done_threshold has it.
        return jnp.where((found > 0) & (keys[tile] - found < tokens), keys[tile], found)

    low, high = key(start), key(end)
    used = high > low
    before = running_sum(used.astype(jnp.int32))
    place = jnp.where(used, before - 1, limit)
    columns = (
        tile,
        place * tokens,
        tile * tokens,
        (tile + 1) * tokens,
        first_key[tile] + low,
        first_key[tile] + high,
        keys[tile] - high,
        jnp.zeros_like(tile),
    )
    info = jnp.zeros((limit, 8), jnp.int32).at[place].set(jnp.stack(columns, -1), mode="drop")
    owner = jnp.full((limit,), tiles, jnp.int32).at[place].set(tile, mode="drop")
    # A work belongs to the share that its start lies in.
    bounds = share * jnp.arange(groups + 1, dtype=jnp.int32)
    earlier = search(start, bounds, method="compare_all")
    indptr = jnp.concatenate([jnp.zeros(1, jnp.int32), before])[earlier]
    return WorkList(indptr, info, owner)
