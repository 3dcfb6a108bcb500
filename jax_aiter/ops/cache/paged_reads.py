"""What a query over a paged cache reads: the slots of its own visible keys, and no other; see `core.reads`.

A group is one head of one query. Block numbers and lengths are read by all, but for table entries behind a sequence's last block.
"""

from typing import Any

import numpy as np

from jax_aiter.core.reads import NOTHING, Mask, Reads, at, grid, spread
from jax_aiter.ops.cache.kv_layout import KEY_AXES, VALUE_AXES


def by_layout(mask: np.ndarray, axes: str, vector: int = 1) -> Mask:
    """[..., nb, bs, Hk] in the order of a cache's axes; what a slot and head does not number has size one.

    vector: tokens to an ``x`` where the value's last axis runs over tokens.
    """
    names, lead = axes.split(), mask.shape[:-3]
    have = ["nb", "bs", "Hk"]
    if "bs/x" in names:
        have = ["nb", "bs/x", "x", "Hk"]
        mask = mask.reshape(*lead, mask.shape[-3], -1, vector, mask.shape[-1])
    kept = [n for n in names if n in have]
    mask = np.moveaxis(mask, [len(lead) + have.index(n) for n in kept], range(len(lead), mask.ndim))
    return mask[(..., *(slice(None) if n in have else None for n in names))]


def slots_of(sees: Mask, owner: Any, blocks: list[np.ndarray], total: int, size: int) -> Mask:
    """bool [T, nb, bs]: the slots of the keys that each token sees.

    sees: bool [T, L] by key position; owner: sequence of each token, or `NOTHING`; blocks: each sequence's block numbers, in order.
    """
    out = np.zeros((len(owner), total, size), bool)
    for t, b in enumerate(owner):
        for position in np.flatnonzero(sees[t]) if b >= 0 else ():
            block = blocks[b][position // size]
            if 0 <= block < total:
                out[t, block, position % size] = True
    return out


def ragged(tokens: int, offsets, lengths, *, causal: bool = True, window: int = 0, chunk: int = 0, most: int | None = None):
    """(sees bool [T, L], owner [T]) of packed queries at the last positions of their sequences; `most`: only so many of each."""
    sees, owner = np.zeros((tokens, max([*lengths, 0])), bool), np.full(tokens, NOTHING)
    for b, (first, last, length) in enumerate(zip(offsets[:-1], offsets[1:], lengths, strict=True)):
        for t in range(first if most is None else max(first, last - most), min(last, tokens)):
            position = length - (last - t)
            begin = max(position - window + 1 if window else 0, position // chunk * chunk if chunk else 0, 0)
            sees[t, begin : max(min(position + 1, length) if causal else length, 0)] = True
            owner[t] = b
    return sees, owner


def block_size(key_cache, kv_layout: str) -> int:
    return key_cache.shape[KEY_AXES[kv_layout].split().index("bs")]


def held(lengths, block_tables, key_cache, kv_layout: str) -> np.ndarray:
    """Lengths as the ops count them: no more than the blocks of a table's row hold."""
    return np.clip(lengths, 0, block_tables.shape[1] * block_size(key_cache, kv_layout))


def heads_of(tokens: int, query_heads: int, kv_heads: int, slots: Mask):
    """(token, head, keys bool [G, nb, bs, Hk], labels [T, Hq]) with one group per head of a query."""
    token, head = grid(tokens, query_heads)
    kv = at(head // (query_heads // kv_heads), kv_heads)
    some = slots.any((1, 2))[:, None]
    labels = np.where(some, np.arange(tokens * query_heads).reshape(tokens, query_heads), NOTHING)
    return token, head, slots[token][..., None] & kv[:, None, None], labels


def attention(
    query: np.ndarray, sees: Mask, owner: Any, blocks: list[np.ndarray], key_cache, value_cache, kv_layout: str,
    query_name: str = "query", k_scale=None, v_scale=None, per_head: dict[str, Any] | None = None,
) -> Reads:  # fmt: skip
    """per_head: operands ``[Hq]`` by name (slopes, sinks). Scales are [1], [nb, Hk, bs] or [nb, Hk]."""
    sizes = dict(zip(KEY_AXES[kv_layout].split(), key_cache.shape, strict=True))
    slots = slots_of(sees, owner, blocks, sizes["nb"], sizes["bs"])
    token, head, keys, labels = heads_of(query.shape[0], query.shape[1], sizes["Hk"], slots)
    operands = {
        query_name: spread(at(token, len(query)), at(head, query.shape[1]), None),
        "key_cache": by_layout(keys, KEY_AXES[kv_layout]),
        "value_cache": by_layout(keys, VALUE_AXES[kv_layout], value_cache.shape[-1]),
    }
    for name, scale in (("k_scale", k_scale), ("v_scale", v_scale)):
        if scale is not None and scale.ndim == 3:
            operands[name] = by_layout(keys, "nb Hk bs")
        elif scale is not None and scale.ndim == 2:
            operands[name] = keys.any(2)
    for name in per_head or {}:
        operands[name] = at(head, query.shape[1])
    return Reads(len(token), {"out": labels[..., None]}, operands)


def with_table(found: Reads, block_tables, lengths, key_cache, kv_layout: str) -> Reads:
    """Of the block tables, the entries that stand for tokens below the length are read, by all."""
    size = block_size(key_cache, kv_layout)
    used: Mask = np.arange(block_tables.shape[1]) * size < np.asarray(lengths)[:, None]
    found.operands["block_tables"] = np.expand_dims(used, 0)
    return found


def used_indices(indptr, count, entries: int) -> Mask:
    """bool [1, entries]: the first `count` of what each sequence has in a packed list of pages."""
    index = np.arange(entries)
    spans = zip(indptr[:-1], indptr[1:], count, strict=True)
    return np.any([(a <= index) & (index < min(a + n, b)) for a, b, n in spans], axis=0, keepdims=True)
