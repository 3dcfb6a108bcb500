"""The work list of a persistent paged attention kernel, built on the device: which workgroup takes which pages of which sequence.

AITER's get_pa_metadata_v1 walks over compute units and sequences one after the other. Its result has a closed form: for every
key/value head all pages lie on one line, cut at every sequence and into equal shares, one per workgroup.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.ops.shared.running_sum import running_sum
from jax_aiter.ops.shared.search import search


class WorkList(NamedTuple):
    """What the kernel reads, csrc/include/pa.h PaWorkInfo, and what joins its partial results.

    indptr: int32 [groups + 1], the works of every workgroup. info: int32 [works, 8]: sequence, first row of its partial result (-1:
    it is final), first and last query row, first and last place in kv_indices, 0, first query head | last one << 16; unused rows
    are zero. parts: int32 [B + 1], the bounds of every sequence's partial results; one without any is not split.
    """

    indptr: jax.Array
    info: jax.Array
    parts: jax.Array


def works_of(sequences: Any, kv_heads: int, groups: int) -> Any:
    """Works at most: every cut begins one."""
    return kv_heads * (sequences + groups // kv_heads - 1)


def pieces_of(kv_heads: int, groups: int) -> int:
    """Partial results at most, of any number of sequences: a share's cut splits one sequence."""
    return max(1, 2 * (groups // kv_heads - 1))


def capacity(sequences: int, kv_heads: int, groups: int) -> tuple[int, int]:
    """Works, and partial results, at most, of that many sequences."""
    works = works_of(sequences, kv_heads, groups)
    return works, max(1, min(works // kv_heads, pieces_of(kv_heads, groups)))


def owner_of_pieces(parts: jax.Array, pieces: int) -> jax.Array:
    """int32 [pieces]: the sequence of each partial result, B where unused."""
    return _find(parts[1:], jnp.arange(pieces, dtype=jnp.int32), "right")


def used_blocks(kv_indptr: jax.Array, context_lens: jax.Array, slots: Any, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Per sequence: its first place in kv_indices, how many blocks it uses, its length, both within what kv_indptr gives it."""
    bounds = jnp.clip(kv_indptr, 0, slots)
    first, held = bounds[:-1], jnp.maximum(bounds[1:] - bounds[:-1], 0)
    length = jnp.clip(context_lens, 0, held * size)
    return first, (length + size - 1) // size, length


def asked(qo_indptr: jax.Array, *per_sequence: jax.Array) -> tuple[jax.Array, ...]:
    """Counts per sequence, of a sequence without queries 0: it needs no work."""
    some = qo_indptr[1:] > qo_indptr[:-1]
    return tuple(jnp.where(some, x, 0) for x in per_sequence)


def work_list(first_page: jax.Array, pages: jax.Array, queries: int, group: int, kv_heads: int, groups: int) -> WorkList:
    """first_page, pages: int32 [B], of every sequence in kv_indices; queries per sequence; query heads per key/value head."""
    sequences, shares = pages.shape[0], groups // kv_heads
    works = works_of(sequences, kv_heads, groups)
    if isinstance(sequences, int) and sequences == 0:
        return WorkList(*(jnp.zeros(shape, jnp.int32) for shape in ((groups + 1,), (works, 8), (1,))))
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
    return WorkList(indptr, info, jnp.concatenate([jnp.zeros(1, jnp.int32), stop_split]))


def _find(ordered: jax.Array, values: jax.Array, side: str) -> jax.Array:
    """As one comparison of all pairs; a bisection would be a loop of tiny kernels."""
    return search(ordered, values, side=side, method="compare_all")
