"""Attention of tiles of queries over pages of a KV cache, streamed with an online softmax.

A tile is a few queries of one sequence. All tiles advance together, each through its own pages, from the first page that a query
of it may see to the last; a page outside that range is never read. Keys that a query does not see meet none of its arithmetic, also
where another query of the tile sees them; what is seen and is not finite shows in the whole row.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import machine, symbolic
from jax_aiter.ops.attention.forms import chunked, gathered
from jax_aiter.ops.attention.forms.pages import Pages, Queries, Rule, by_key, grouped
from jax_aiter.ops.attention.forms.softmax import F32, dot, finish, online_softmax, readable, shown
from jax_aiter.ops.shared import narrow

# Keys per step, enough to amortise the loop, and a bound on the elements that a step may hold.
KEYS_PER_STEP = 128
ELEMENTS_PER_STEP = 1 << 22
TILES_PER_STEP = 16  # where their number is symbolic: they are padded to a multiple of it


def attend(queries: Queries, pages: Pages, rule: Rule, value_dim: int, listed: Any = None) -> tuple[jax.Array, jax.Array]:
    """out f32 [N, R, Hk, G, Dv] and lse f32 [N, R, Hk, G]; queries that see no key give 0 and -inf (or the sink alone).

    listed: where a flat list deals out the pages, its length, and a tile holds all queries of its sequence (`chunked`).
    """
    n, r, hk, g, d = queries.q.shape
    if 0 in (n, r, hk, g, pages.per_sequence):
        return jnp.zeros((n, r, hk, g, value_dim), F32), jnp.full((n, r, hk, g), -jnp.inf, F32)
    if machine.is_gpu() and listed is not None:
        return chunked.attend(queries, pages, rule, value_dim, listed)
    if machine.is_gpu():
        return gathered.attend(queries, pages, rule, value_dim)
    keys = KEYS_PER_STEP
    if listed is not None and not symbolic.any_symbolic_size(n, listed):
        keys = min(max(listed // n * pages.size, keys), 2 * keys)  # as many as the sequences have, if they are of one length
    per_step = max(1, keys // pages.size)
    if not symbolic.is_symbolic(pages.per_sequence):
        per_step = max(1, min(pages.per_sequence, per_step))
    group = TILES_PER_STEP
    if not symbolic.any_symbolic_size(hk, g, d, value_dim):
        cost = per_step * pages.size * max(hk * max(d, value_dim), r * hk * g)
        group = max(1, ELEMENTS_PER_STEP // max(cost, 1))
    group = min(group, TILES_PER_STEP if symbolic.is_symbolic(n) else max(n, 1))
    return grouped(queries, group, lambda tiles: _stream(tiles, pages, rule, value_dim, per_step))


def _stream(queries: Queries, pages: Pages, rule: Rule, value_dim: int, per_step: int):
    q, sequence, begin, end, anchor = queries
    n, r, hk, g, _ = q.shape
    some = begin < end
    capacity = pages.per_sequence * pages.size
    first = jnp.min(jnp.where(some, begin, capacity), axis=1) // pages.size
    last = (jnp.max(jnp.where(some, end, 0), axis=1) + pages.size - 1) // pages.size
    steps = jnp.max(jnp.maximum(last - first, 0) + per_step - 1, initial=0) // per_step

    def alone(v):
        return r == 1 and v.dtype.itemsize == 2

    def step(i, carry):
        state, sees = carry
        index = first[:, None] + i * per_step + jnp.arange(per_step, dtype=jnp.int32)
        page = pages.lookup(sequence, jnp.minimum(index, pages.per_sequence - 1))
        there = (index < last[:, None]) & (page >= 0) & (page < pages.total)
        k, v, k_scale, v_scale = pages.read(jnp.where(there, page, 0))
        k, v = (x.reshape(n, per_step * pages.size, *x.shape[3:]).astype(F32 if x.dtype.itemsize == 1 else x.dtype) for x in (k, v))
        position = (index[:, :, None] * pages.size + jnp.arange(pages.size, dtype=jnp.int32)).reshape(n, -1)
        exists = jnp.repeat(there, pages.size, axis=1)
        mask = exists[:, None] & (begin[:, :, None] <= position[:, None]) & (position[:, None] < end[:, :, None])
        raw = dot("nrhgd,nkhd->nrhgk", q.astype(k.dtype), k)
        if k_scale is not None:
            raw = raw * by_key(k_scale)
        s = jnp.where(mask[:, :, None, None], rule.score(raw, position - anchor[:, None]), -jnp.inf)
        if alone(v):  # what the one query of a tile does not see is set to zero as it is read
            v = narrow.kept(mask[:, 0, :, None, None], v)
            return online_softmax(state, s, lambda p: dot("nrhgk,nkhd->nrhgd", p.astype(v.dtype), v)), sees | mask.any(-1)
        v, finite = readable(v if v_scale is None else v * v_scale.reshape(n, per_step * pages.size, hk, 1))
        lost = shown(finite.swapaxes(1, 2)[:, None], mask[:, :, None])[..., None, None]
        return online_softmax(state, s, lambda p: dot("nrhgk,nkhd->nrhgd", p, v) + lost), sees | mask.any(-1)

    shape = (n, r, hk, g)
    acc = jnp.zeros((*shape, value_dim), F32)
    if rule.sinks is None:
        start = (jnp.full(shape, -jnp.inf, F32), jnp.zeros(shape, F32), acc)
    else:  # a sink is one more score, of a value of zeros
        sinks = jnp.where(some[:, :, None, None], rule.sinks.astype(F32), -jnp.inf)
        start = (sinks, jnp.where(sinks == -jnp.inf, 0.0, 1.0), acc)
    state, sees = jax.lax.fori_loop(0, steps, step, (start, jnp.zeros((n, r), bool)))
    out, lse = finish(state)
    if r == 1:
        out = jnp.where(jnp.isfinite(out).all(-1, keepdims=True), out, jnp.nan)
    return jnp.where(sees[:, :, None, None, None], out * rule.value_scale, 0.0), lse
