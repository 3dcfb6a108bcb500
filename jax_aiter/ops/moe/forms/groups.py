"""Grouping the T·k (token, slot) entries of a routing by expert, and looping over experts in blocks of rows.

An entry is the flat index ``token * k + slot``. Entries that name no local expert sort behind all others and are never computed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic
from jax_aiter.ops.shared import narrow
from jax_aiter.ops.shared.running_sum import running_sum
from jax_aiter.ops.shared.search import search

INT32_MAX = 2**31 - 1


class Groups(NamedTuple):
    """Entries in the order expert, token, slot.

    order: int32[n], the entry at each sorted row.
    inverse: int32[n], the sorted row of each entry.
    first, counts: int32[E], where each expert's rows begin and how many there are.
    used: bool[n], by entry: whether an expert takes it.
    """

    order: jax.Array
    inverse: jax.Array
    first: jax.Array
    counts: jax.Array
    used: jax.Array


def local_ids(
    topk_ids: jax.Array, experts: int, expert_mask: jax.Array | None = None, num_local_tokens: jax.Array | None = None
) -> jax.Array:
    """Ids renumbered to the experts held here, -1 for everything that contributes nothing.

    With `expert_mask` (int32[global experts]) local expert j is the j-th one whose mask is not zero, as AITER numbers them.
    """
    ids = topk_ids
    if expert_mask is not None:
        size = expert_mask.shape[0]
        mask = expert_mask != 0
        numbers = jnp.where(mask, running_sum(mask.astype(jnp.int32)) - 1, -1)
        known = (ids >= 0) & (ids < size)
        ids = jnp.where(known, numbers[jnp.clip(ids, 0, max(size - 1, 0))], -1) if size else jnp.full_like(ids, -1)
    ids = jnp.where((ids >= 0) & (ids < experts), ids, -1)
    if num_local_tokens is not None:
        ids = jnp.where(jnp.arange(ids.shape[0])[:, None] < num_local_tokens[0], ids, -1)
    return ids


def by_expert(ids: jax.Array, experts: int) -> tuple[jax.Array, jax.Array]:
    """Stable sort of the entries by expert: their order, and the experts in it (`experts` for entries that no expert takes)."""
    n = ids.size
    flat = jnp.where(ids >= 0, ids, experts).reshape(-1)
    entries = jnp.arange(n, dtype=jnp.int32)
    # One integer key sorts several times faster than a key with a payload.
    if symbolic.decided(lambda: (experts + 1) * n <= INT32_MAX):
        keys = jnp.sort(flat * n + entries)
        return keys % max(n, 1), keys // max(n, 1)
    sorted_ids, order = jax.lax.sort((flat, entries), num_keys=1, is_stable=True)
    return order, sorted_ids


def group(ids: jax.Array, experts: int) -> Groups:
    """The entries grouped by expert; `ids` as `local_ids` gives them."""
    n = ids.size
    used = (ids >= 0).reshape(-1)
    entries = jnp.arange(n, dtype=jnp.int32)
    order, sorted_ids = by_expert(ids, experts)
    first = search(sorted_ids, jnp.arange(experts + 1, dtype=jnp.int32))
    inverse = jnp.zeros(n, jnp.int32).at[order].set(entries, unique_indices=True)
    return Groups(order, inverse, first[:-1], first[1:] - first[:-1], used)


def experts_of(groups: Groups, row: jax.Array, method: str = "scan") -> jax.Array:
    """The expert of each sorted row; the last one's for rows that no expert takes."""
    after = search(groups.first + groups.counts, row, side="right", method=method)
    return jnp.minimum(after, groups.first.shape[0] - 1)


def block_rows(entries: int, experts: int) -> int:
    """Rows per GEMM, between 8 and 128: most experts then need one block or have full ones.

    Measured on x86: every GEMM repacks the expert's weights, which costs more than some empty rows, until 128 rows hide it.
    """
    if symbolic.any_symbolic_size(entries, experts):
        return 32
    mean = entries / max(experts, 1)
    block = 8
    while block < 128 and block < 1.5 * mean:
        block *= 2
    return block


class Rows(NamedTuple):
    """One block of sorted rows of one expert; rows past the expert's last are not `valid` and belong to nobody."""

    start: jax.Array
    entry: jax.Array
    valid: jax.Array


def over_experts(
    groups: Groups,
    block: int,
    load: Callable[[jax.Array], Any],
    step: Callable[[Any, Rows, Any, Any], tuple[Any, Any]],
    state: Any,
    *,
    fresh: Callable[[], Any] = lambda: (),
    store: Callable[[jax.Array, Any, Any], Any] = lambda e, total, state: state,
) -> Any:
    """Run ``step`` on every block of every expert that has rows, in sorted order.

    ``load(e)`` fetches what the expert's blocks share (its weights, once), ``step(loaded, rows, total, state) -> (total, state)``
    does a block, ``total`` starts as ``fresh()`` for each expert and ``store(e, total, state)`` puts it away. Trip counts are the
    data's own, so neither absent experts nor padding blocks cost anything.
    """
    experts = groups.first.shape[0]
    padded = jnp.pad(groups.order, (0, block))
    present = jnp.argsort(groups.counts == 0)  # stable: the experts with rows first, in order

    def expert(i, state):
        e = present[i]
        first, count = groups.first[e], groups.counts[e]
        loaded = load(e)

        def body(b, carry):
            start = first + b * block
            entry = jax.lax.dynamic_slice(padded, (start,), (block,))
            valid = jnp.arange(block, dtype=jnp.int32) < first + count - start
            return step(loaded, Rows(start, entry, valid), *carry)

        total, state = jax.lax.fori_loop(0, (count + block - 1) // block, body, (fresh(), state))
        return store(e, total, state)

    if experts == 0 or groups.order.shape[0] == 0:
        return state
    return jax.lax.fori_loop(0, jnp.sum(groups.counts > 0), expert, state)


def take_row(x: jax.Array, index: jax.Array) -> jax.Array:
    """``x[index]`` without the leading axis; the index is in range."""
    return narrow.read(x, index, lambda x, i: jax.lax.dynamic_index_in_dim(x, i, keepdims=False))


def combine(groups: Groups, rows: jax.Array, shape: tuple[int, int], weight: jax.Array | None = None) -> jax.Array:
    """Sum over each token's slots of its sorted rows, times `weight` [T, k] if given; unused entries count as zero.

    `rows` may be longer than the entries (blocks write past the last row) and hold anything where no entry is used.
    """
    tokens, k = shape
    used = groups.used.reshape(tokens, k, 1)
    chosen = rows[groups.inverse].reshape(tokens, k, rows.shape[-1])
    if weight is not None:
        chosen = chosen * weight[:, :, None]
    return jnp.sum(jnp.where(used, chosen, 0), axis=1)


def combine_scalar(groups: Groups, rows: jax.Array) -> jax.Array:
    """The entries' own values out of sorted rows, 0 for entries that are not used."""
    return jnp.where(groups.used, rows[groups.inverse], 0)


def by_entry(groups: Groups, rows: jax.Array) -> jax.Array:
    """The entries' own rows [n, ...] out of sorted ones, 0 for entries that are not used."""
    return jnp.where(groups.used[:, None], rows[groups.inverse], jnp.zeros((), rows.dtype))
