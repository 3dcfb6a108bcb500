"""The work list of a persistent paged attention kernel, built on the device: which workgroup takes which pages of which sequence.

AITER's get_pa_metadata_v1 walks over compute units and sequences one after the other. Its result has a closed form: for every
key/value head all pages lie on one line, cut at every sequence and into equal shares, one per workgroup.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.ops.shared.running_sum import running_sum


class WorkList(NamedTuple):
    """What the kernel reads, csrc/include/pa.h PaWorkInfo, and what joins its partial results.

    indptr: int32 [groups + 1], the works of every workgroup. info: int32 [works, 8]: sequence, first row of its partial result (-1:
    it is final), first and last query row, first and last place in kv_indices, 0, first query head | last one << 16; unused rows
    are zero. piece: int32 [pieces], the sequence of each partial result, B where unused. split: bool [B], whether a sequence has
    partial results.
    """

    indptr: jax.Array
    info: jax.Array
    piece: jax.Array
    split: jax.Array


def capacity(sequences: int, kv_heads: int, groups: int) -> tuple[int, int]:
    """Works, and partial results, at most: every cut begins a work; a share's cut splits one sequence."""
    per_head = sequences + groups // kv_heads - 1
    return kv_heads * per_head, max(1, min(per_head, 2 * (groups // kv_heads - 1)))


def work_list(first_page: jax.Array, pages: jax.Array, queries: int, group: int, kv_heads: int, groups: int) -> WorkList:
    """first_page, pages: int32 [B], of every sequence in kv_indices; queries per sequence; query heads per key/value head."""
    sequences, shares = pages.shape[0], groups // kv_heads
    works, pieces = capacity(sequences, kv_heads, groups)
    ends = running_sum(pages)
    begins, total = ends - pages, ends[-1]

    def cut(share: jax.Array) -> jax.Array:
        """Where on the line a share begins."""
        return share * (total // shares) + jnp.minimum(share, total % shares)

    stops = cut(jnp.arange(1, shares + 1, dtype=jnp.int32))
    # A sequence without pages is a work too, of the share that finished the one before it.
    empty = pages == 0
    low, high = (_find(stops, begins, side) for side in ("left", "right"))
    first = jnp.where(empty, low, high)
    last = jnp.where(empty, first, _find(stops, ends, "left"))
    count = last - first + 1
    split = count > 1
    stop, stop_split = running_sum(count), running_sum(jnp.where(split, count, 0))

    item = jnp.arange(works, dtype=jnp.int32)
    head, local = item // stop[-1], item % stop[-1]
    b = _find(stop, local, "right")
    place = local - (stop - count)[b]
    share = first[b] + place
    partial = (stop_split[b] - count[b] + place) * queries
    columns = (
        b,
        jnp.where(split[b], partial, -1),
        b * queries,
        (b + 1) * queries,
        first_page[b] + jnp.maximum(cut(share), begins[b]) - begins[b],
        first_page[b] + jnp.minimum(cut(share + 1), ends[b]) - begins[b],
        jnp.zeros_like(b),
        head * group | (head + 1) * group << 16,
    )
    used = head < kv_heads
    info = jnp.where(used[:, None], jnp.stack(columns, -1), 0)

    # AITER gives sequences without pages that come first to the workgroup after those that the head before has used.
    next_group = jnp.where(total > 0, (head - 1) * shares + last[-1] + 1, head)
    workgroup = jnp.where(ends[b] > 0, head * shares + share, jnp.where(head > 0, next_group, 0))
    workgroup = jnp.where(used, workgroup, groups)
    indptr = _find(workgroup, jnp.arange(groups + 1, dtype=jnp.int32), "left")
    piece = _find(stop_split, jnp.arange(pieces, dtype=jnp.int32), "right")
    return WorkList(indptr, info, piece, split)


def _find(ordered: jax.Array, values: jax.Array, side: str) -> jax.Array:
    """searchsorted as one comparison of all pairs; a bisection would be a loop of tiny kernels."""
    return jnp.searchsorted(ordered, values, side=side, method="compare_all").astype(jnp.int32)
