"""What the ops over a block table share: queries cut into tiles, pages of the four cache layouts, vmap, checks of data."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.batching import merged, split
from jax_aiter.core import symbolic
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.ops.attention import params as params_of
from jax_aiter.ops.attention.forms.pages import Pages, Queries
from jax_aiter.ops.attention.ragged import fold_offsets, offset_checks, owners, some_sequence, tile_rows, tiles
from jax_aiter.ops.cache.dtypes import CACHE_DTYPES, kv_dtypes
from jax_aiter.ops.cache.kv_layout import cache_axes, check_caches, keys_by_token, values_by_token
from jax_aiter.ops.shared import narrow

CACHE_OPERANDS = {
    "key_cache": Arg("nb bs Hk D", CACHE_DTYPES),
    "value_cache": Arg("nb bs Hk Dv", CACHE_DTYPES),
    "block_tables": Arg("B M", INT32),
    "context_lens": Arg("B", INT32),
    "k_scale": Arg("1", ("float32",), optional=True),
    "v_scale": Arg("1", ("float32",), optional=True),
}


def cache_relayout(params):
    axes = "nb Hk bs" if params["per_token_scales"] else "B Hk" if params.get("per_sequence_scales") else "1"
    return {**cache_axes(params["kv_layout"]), "k_scale": axes, "v_scale": axes}


def scales_per_token(k_scale, v_scale) -> bool:
    """Whether KV scales come as [nb, Hk, bs] rather than [1]; the record checks the sizes of both."""
    return any(getattr(s, "ndim", 0) == 3 for s in (k_scale, v_scale))


def scales_per_sequence(k_scale, v_scale) -> bool:
    """Whether KV scales come as [B, Hk]."""
    return any(getattr(s, "ndim", 0) == 2 for s in (k_scale, v_scale))


def check_paged(op: str, dims, query, key_cache, value_cache, k_scale, v_scale, kv_layout: str) -> None:
    kv_dtypes(op, query.dtype, key_cache.dtype, value_cache.dtype, k_scale, v_scale)
    params_of.group_size(op, dims["Hq"], dims["Hk"])
    size = check_caches(op, kv_layout, dims, key_cache.dtype, dims["D"])
    symbolic.below(
        dims["M"] * size, 2**31, f"{op}: block_tables has {dims['M']} columns of {size} tokens, must be less than 2^31 tokens"
    )


def check_offsets(op: str, name: str, elements: int, sequences: int, of: str = "context_lens") -> None:
    rule = f"{op}: {name} has {elements} elements, must be the number of sequences + 1, for {sequences} sequences in {of}"
    if elements != sequences + 1:
        raise ValueError(rule)


def pages_of(key_cache, value_cache, block_tables, k_scale, v_scale, kv_layout: str, per_token: bool) -> Pages:
    sizes = dict(zip(cache_axes(kv_layout)["key_cache"].split(), key_cache.shape, strict=True))

    def read(page):
        ks, vs = (s[page].swapaxes(-1, -2) if per_token else None for s in (k_scale, v_scale))
        k, v = (narrow.read(cache, page, lambda x, i: x[i]) for cache in (key_cache, value_cache))
        return keys_by_token(k, kv_layout), values_by_token(v, kv_layout), ks, vs

    sequences, columns = block_tables.shape
    return Pages(
        size=sizes["bs"],
        total=sizes["nb"],
        per_sequence=0 if sequences == 0 else columns,
        lookup=lambda sequence, index: block_tables[sequence[:, None], index],
        read=read,
    )


def tensor_scale(scale, per_token: bool):
    """The per-tensor scale as a scalar; 1 where there is none or it is per token."""
    return 1.0 if scale is None or per_token else scale[0]


def visible(position, length, owned, causal: bool, window: int, chunk: int = 0):
    """The interval [begin, end) of key positions that queries at `position` see."""
    begin = jnp.maximum(position - window + 1, 0) if window else jnp.zeros_like(position)
    if chunk:
        begin = jnp.maximum(begin, position // chunk * chunk)
    end = jnp.minimum(position + 1, length) if causal else length + jnp.zeros_like(position)
    return begin, jnp.where(owned, end, 0)


def decode_queries(query, lengths, kv_heads: int, window: int, chunk: int = 0) -> Queries:
    """One query per sequence, at its last position."""
    b, hq, d = query.shape
    position = lengths[:, None] - 1
    begin, end = visible(position, lengths[:, None], True, True, window, chunk)
    q = query.reshape(b, 1, kv_heads, hq // kv_heads, d)
    return Queries(q, jnp.arange(b, dtype=jnp.int32), begin, end, lengths - 1)


def ragged_queries(query, cu_seqlens, lengths, kv_heads: int, window: int, causal: bool, anchor_at_first: bool, chunk: int = 0):
    """Packed queries at the last positions of their sequences, and the function that packs the tiles' results again."""
    t, hq, d = query.shape
    cu_seqlens, lengths = some_sequence(cu_seqlens, lengths)
    cut, place = tiles(cu_seqlens, t, tile_rows(t, lengths.shape[0]))
    length = lengths[cut.sequence]
    first = length - (cu_seqlens[1:] - cu_seqlens[:-1])[cut.sequence]
    begin, end = visible(first[:, None] + cut.offset, length[:, None], cut.owned, causal, window, chunk)
    q = query[cut.token].reshape(*cut.token.shape, kv_heads, hq // kv_heads, d)

    def pack(x, absent):
        """[N, R, Hk, G, ...] -> [T, Hq, ...], tokens without a sequence `absent`."""
        flat = x.reshape(x.shape[0] * x.shape[1], hq, *x.shape[4:])
        known = (place < flat.shape[0]).reshape(-1, *[1] * (flat.ndim - 1))
        return jnp.where(known, flat[jnp.minimum(place, flat.shape[0] - 1)], absent)

    return Queries(q, cut.sequence, begin, end, first if anchor_at_first else length - 1), pack


def aligned_queries(query, cu_seqlens, lengths, kv_heads: int, longest: int, causal: bool):
    """As `ragged_queries` without window, but a sequence's queries are one tile of `longest` rows; what is behind is left out."""
    t, hq, d = query.shape
    cu_seqlens, lengths = some_sequence(cu_seqlens, lengths)
    longest = max(longest, 1)
    count = (cu_seqlens[1:] - cu_seqlens[:-1])[:, None]
    index = jnp.arange(longest, dtype=jnp.int32)
    owned = index < count
    begin, end = visible(lengths[:, None] - count + index, lengths[:, None], owned, causal, 0)
    token = jnp.where(owned, cu_seqlens[:-1, None] + index, 0)
    q = query[jnp.clip(token, 0, t - 1)].reshape(*token.shape, kv_heads, hq // kv_heads, d)
    owner = owners(cu_seqlens, t)

    def pack(x, absent):
        """[B, longest, Hk, G, ...] -> [T, Hq, ...], tokens without a sequence `absent`."""
        there = owner.owned & (owner.offset < longest)
        found = x[owner.sequence, jnp.clip(owner.offset, 0, longest - 1)].reshape(t, hq, *x.shape[4:])
        return jnp.where(there.reshape(-1, *[1] * (found.ndim - 1)), found, absent)

    return Queries(q, jnp.arange(lengths.shape[0], dtype=jnp.int32), begin, end, lengths - 1), pack


def clamp_lengths(context_lens, block_tables, size: int):
    return jnp.clip(context_lens, 0, block_tables.shape[1] * size)


def fold_paged(batched, offsets_name: str | None, query_name: str, per_token: bool, per_sequence: bool = False):
    """vmap as more sequences over one cache; batched caches are concatenated and the block tables moved to their part."""
    allowed = {query_name, "block_tables", "context_lens", "key_cache", "value_cache", offsets_name}
    if per_token or per_sequence:
        allowed |= {"k_scale", "v_scale"}
    if not batched.names <= allowed:
        return NotImplemented
    size = batched.size
    values = dict(batched.values)
    table, lengths = batched.broadcast("block_tables"), batched.broadcast("context_lens")
    whole = [n for n in ("key_cache", "value_cache", "k_scale", "v_scale") if n in values and (per_token or "scale" not in n)]
    if any(n in batched for n in whole):
        blocks = batched.broadcast("key_cache").shape[1]
        if not symbolic.decided(lambda: size * blocks < 2**31):
            return NotImplemented
        for name in whole:
            values[name] = merged(batched.broadcast(name))
        moved = table + blocks * jnp.arange(size, dtype=jnp.int32)[:, None, None]
        table = jnp.where((table >= 0) & (table < blocks), moved, -1)
    query = batched.broadcast(query_name)
    if offsets_name is not None:
        # One more sequence per element, without context, takes the queries that belong to none.
        values[offsets_name] = fold_offsets(batched.broadcast(offsets_name), query.shape[1], (query.shape[1],))
        table = jnp.pad(table, ((0, 0), (0, 1), (0, 0)))
        lengths = jnp.pad(lengths, ((0, 0), (0, 1)))
    for name in ("k_scale", "v_scale") if per_sequence else ():
        scales = batched.broadcast(name)
        values[name] = merged(scales if offsets_name is None else jnp.pad(scales, ((0, 0), (0, 1), (0, 0)), constant_values=1))
    for name, x in ((query_name, query), ("block_tables", table), ("context_lens", lengths)):
        values[name] = merged(x)
    return [split(x, size) for x in batched.bind(**values)]


def unreadable(block_tables, lengths, key_cache, kv_layout: str):
    """[B, M]: the block numbers below the length that lie outside the cache."""
    sizes = dict(zip(cache_axes(kv_layout)["key_cache"].split(), key_cache.shape, strict=True))
    used = jnp.arange(block_tables.shape[1]) * sizes["bs"] < lengths[:, None]
    return used & ((block_tables < 0) | (block_tables >= sizes["nb"]))


def paged_checks(key_cache, block_tables, context_lens, kv_layout: str) -> dict[str, jax.Array]:
    sizes = dict(zip(cache_axes(kv_layout)["key_cache"].split(), key_cache.shape, strict=True))
    blocks, size, columns = sizes["nb"], sizes["bs"], block_tables.shape[1]
    return {
        f"context_lens must be in [0, {columns * size}]": (context_lens < 0) | (context_lens > columns * size),
        f"block_tables must be in [0, {blocks}) below the context length": unreadable(
            block_tables, context_lens, key_cache, kv_layout
        ),
    }


def query_checks(name: str, offsets, context_lens, queries: int) -> dict[str, jax.Array]:
    return {
        **offset_checks(name, offsets, queries),
        # A batch that is filled up has sequences of no context.
        "no sequence with a context may have more queries than its length": (
            (jnp.diff(offsets) > context_lens) & (context_lens > 0)
        ),
    }
