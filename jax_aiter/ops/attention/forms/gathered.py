"""Attention of tiles of queries over pages: what a GPU does where no kernel reads the pages in place.

All pages of a sequence are gathered once, as far as its table goes, and meet its queries in one product, one softmax and one
product: no loop ends where a length says, so the host never waits. Lengths only mask. Where the gathered keys and values of all
tiles would not fit `BYTES`, tiles go in groups of equal size.
"""

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic
from jax_aiter.ops.attention.forms.pages import Pages, Queries, Rule, by_key, grouped, tiles_together
from jax_aiter.ops.attention.forms.rows import LOW, finite_copy
from jax_aiter.ops.attention.forms.softmax import F32, dot

NAME = "pages gathered once, one softmax over whole rows"
BYTES = 4 << 30  # of gathered keys and values at a time
TILES = 16  # where a size is symbolic


def attend(queries: Queries, pages: Pages, rule: Rule, value_dim: int) -> tuple[jax.Array, jax.Array]:
    """As `paged.attend`."""
    n, _, hk, _, d = queries.q.shape
    keys, most = pages.per_sequence * pages.size, TILES
    if not symbolic.any_symbolic_size(keys, hk, d, value_dim):
        most = max(1, BYTES // (keys * hk * (d + value_dim) * queries.q.dtype.itemsize))
    return grouped(queries, tiles_together(n, TILES, most), lambda tiles: _tiles(tiles, pages, rule))


def _tiles(queries: Queries, pages: Pages, rule: Rule) -> tuple[jax.Array, jax.Array]:
    q, sequence, begin, end, anchor = queries
    n, r = begin.shape
    keys = pages.per_sequence * pages.size
    index = jnp.broadcast_to(jnp.arange(pages.per_sequence, dtype=jnp.int32), (n, pages.per_sequence))
    page = pages.lookup(sequence, index)
    there = (page >= 0) & (page < pages.total)
    k, v, k_scale, v_scale = pages.read(jnp.where(there, page, 0))
    # Every 8-bit value is one of bfloat16 and float16.
    k, v = (x.reshape(n, keys, *x.shape[3:]).astype(q.dtype if x.dtype.itemsize == 1 else x.dtype) for x in (k, v))
    position = jnp.arange(keys, dtype=jnp.int32)
    mask = jnp.repeat(there, pages.size, axis=1)[:, None] & (begin[:, :, None] <= position) & (position < end[:, :, None])
    raw = dot("nrhgd,nkhd->nrhgk", q, k)
    raw = raw if k_scale is None else raw * by_key(k_scale)
    s = rule.score(raw, position - anchor[:, None])
    s = jnp.where(mask[:, :, None, None], jnp.maximum(s, LOW), LOW)
    top = jnp.max(s, axis=-1, keepdims=True)
    e = jnp.exp(s - top)
    total = jnp.sum(e, axis=-1, keepdims=True)
    p = e / total if v_scale is None else e / total * by_key(v_scale)
    if r == 1:  # what the one query of a tile does not see is set to zero as it is read
        v = jnp.where(mask[:, 0, :, None, None], v, jnp.zeros((), v.dtype))
    else:
        v, finite = finite_copy(v)
        p = jnp.where(finite.swapaxes(1, 2)[:, None, :, None], p, jnp.nan)
    p = jnp.where(s <= LOW, 0.0, p)
    out = dot("nrhgk,nkhd->nrhgd", p.astype(v.dtype), v)
    out = jnp.where(jnp.isfinite(out).all(-1, keepdims=True), out, jnp.nan)  # what is not finite shows in the whole row
    lse = jnp.where(top <= LOW, -jnp.inf, top + jnp.log(total))[..., 0]
    return finished(out, lse, queries, rule, mask.any(-1))


def finished(out: jax.Array, lse: jax.Array, queries: Queries, rule: Rule, sees: jax.Array) -> tuple[jax.Array, jax.Array]:
    """With the sinks, each one more score of no value, and the values' scale; sees [N, R]: a query sees some key."""
    if rule.sinks is not None:
        sink = rule.sinks.astype(F32)
        out = out * jax.nn.sigmoid(lse - sink)[..., None]
        some = (queries.begin < queries.end)[:, :, None, None]
        lse = jnp.where(some, jnp.logaddexp(lse, sink), -jnp.inf)
    return jnp.where(sees[:, :, None, None, None], out * rule.value_scale, 0.0), lse
