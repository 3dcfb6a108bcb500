"""MLA's ragged queries and paged tokens in the form the kernels take, and their rows back in the caller's order.

The kernels want the same number of queries for every sequence and one-token pages (with longer pages they give wrong
results); the op takes any. What this costs is small beside reading the cache: queries are copied, and the page numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jax_aiter.ops.mla.tiles import Tiles
from jax_aiter.ops.mla.work import WorkList, query_counts, token_bounds


def tile_queries(q: jax.Array, qo_indptr: jax.Array, tiles: Tiles, most: int) -> jax.Array:
    """``[tiles.rows, tiles.heads, D]``: tile by tile, in a tile token by token."""
    start = qo_indptr[:-1] + query_counts(qo_indptr, most) - tiles.places
    row = start[:, None] + jnp.arange(tiles.places, dtype=jnp.int32)
    found = q[jnp.clip(row, 0, q.shape[0] - 1)]
    split = found.reshape(tiles.sequences, tiles.count, tiles.tokens, tiles.folds, tiles.heads, q.shape[-1])
    return jnp.moveaxis(split, 3, 1).reshape(tiles.rows, tiles.heads, q.shape[-1])


def untile(x: jax.Array, tiles: Tiles) -> jax.Array:
    """``[tiles.rows, tiles.heads, ...]`` to ``[B * tiles.places, Hq, ...]``."""
    rest = x.shape[2:]
    split = x.reshape(tiles.sequences, tiles.folds, tiles.count, tiles.tokens, tiles.heads, *rest)
    moved = jnp.moveaxis(split, 1, 3)
    return moved.reshape(tiles.sequences * tiles.places, tiles.folds * tiles.heads, *rest)


def caller_rows(
    qo_indptr: jax.Array, lengths: jax.Array, rows: int, places: int, most: int, causal: bool
) -> tuple[jax.Array, jax.Array]:
    """For each of the caller's rows: which row of `untile` it is, and whether it is a query that sees a key."""
    row = jnp.arange(rows, dtype=jnp.int32)
    last = lengths.shape[0] - 1
    sequence = jnp.clip(jnp.searchsorted(qo_indptr, row, side="right").astype(jnp.int32) - 1, 0, last)
    index, count = row - qo_indptr[sequence], query_counts(qo_indptr, most)[sequence]
    keys = lengths[sequence] - (count - 1 - index if causal else 0)
    seen = (index >= 0) & (index < count) & (keys > 0) & (lengths[sequence] > 0)
    place = jnp.clip(places - count + index, 0, places - 1)
    return sequence * places + place, seen


def one_token_pages(
    kv_indptr: jax.Array, kv_indices: jax.Array, kv_last_page_lens: jax.Array, pages: int, page: int
) -> tuple[jax.Array, jax.Array]:
    """``(indptr int32 [B + 1], token numbers int32 [n])``, all of them inside the cache and the list whatever the input holds."""
    slots = kv_indices.shape[0]
    bounds = jax.lax.cummax(jnp.clip(kv_indptr, 0, slots))
    inside = jnp.clip(kv_indices, 0, pages - 1)
    if page == 1:
        return bounds, inside
    indptr = token_bounds(bounds, kv_last_page_lens, page)
    token = jnp.arange(slots * page, dtype=jnp.int32)
    sequence = jnp.clip(jnp.searchsorted(indptr, token, side="right").astype(jnp.int32) - 1, 0, bounds.shape[0] - 2)
    index = token - indptr[sequence]
    slot = jnp.clip(bounds[sequence] + index // page, 0, slots - 1)
    return indptr, inside[slot] * page + index % page


def given_list(operands: Mapping[str, jax.Array], tiles: Tiles, keys: int) -> WorkList:
    """The caller's work list; whatever it holds, no work reaches past the queries, the `keys` listed, or the partial results."""
    info, works = operands["work_info_set"], operands["work_info_set"].shape[0]
    indptr = jax.lax.cummax(jnp.clip(operands["work_indptr"], 0, works))
    work = jnp.arange(works, dtype=jnp.int32)
    tile = jnp.clip(info[:, 0], 0, tiles.number - 1)
    low = jnp.clip(info[:, 4], 0, keys)
    high = jnp.clip(info[:, 5], low, keys)
    rest = jnp.clip(info[:, 6], 0, keys)
    columns = tile, work * tiles.tokens, tile * tiles.tokens, (tile + 1) * tiles.tokens, low, high, rest, jnp.zeros_like(tile)
    return WorkList(indptr, jnp.stack(columns, -1), jnp.where(work < indptr[-1], tile, tiles.number))
