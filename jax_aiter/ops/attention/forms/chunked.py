"""Attention over pages that a flat list deals out to sequences, for a GPU: the list in chunks of equal size, each of one sequence.

How many pages a sequence has is data, how long the list is a shape. So the work is laid out along the list: a chunk of some hundred
keys meets the queries of its sequence, and the parts are joined by their largest scores and sums, as split attention joins them.
That is work for the whole list once, in few large steps whose number is known while tracing.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic
from jax_aiter.ops.attention.forms import row_blocks
from jax_aiter.ops.attention.forms.gathered import BYTES, TILES, finished
from jax_aiter.ops.attention.forms.pages import Pages, Queries, Rule, by_key
from jax_aiter.ops.attention.forms.rows import LOW, finite_copy
from jax_aiter.ops.attention.forms.softmax import F32, dot
from jax_aiter.ops.shared.running_sum import running_sum
from jax_aiter.ops.shared.search import at_or_before

NAME = "the list of pages gathered once, in chunks that are joined"
KEYS = 512  # of a chunk


def attend(queries: Queries, pages: Pages, rule: Rule, value_dim: int, listed: Any) -> tuple[jax.Array, jax.Array]:
    """As `paged.attend`, for one tile per sequence, of all its queries; listed: the pages of all sequences together."""
    n, r, hk, g, d = queries.q.shape
    if not symbolic.any_symbolic_size(n, r, hk, g, listed) and 0 in (n, r, hk, g, listed):
        return jnp.zeros((n, r, hk, g, value_dim), F32), jnp.full((n, r, hk, g), -jnp.inf, F32)
    per_chunk = max(1, KEYS // pages.size)
    together, chunks = TILES, listed // per_chunk + n
    if not symbolic.any_symbolic_size(r, hk, g, d, value_dim, chunks):
        per_chunk = min(per_chunk, listed)
        keys, chunks = per_chunk * pages.size, listed // per_chunk + min(n, listed)
        scores, gathered = r * hk * g * keys, keys * hk * (d + value_dim) * queries.q.dtype.itemsize
        together = max(1, min(chunks, row_blocks.SCORES // scores, BYTES // gathered))
    last = jnp.max(jnp.where(queries.begin < queries.end, queries.end, 0), axis=1)
    needed = (last + pages.size - 1) // pages.size
    own = (needed + per_chunk - 1) // per_chunk
    ends = running_sum(own)

    def step(state, chunk):
        sequence = jnp.minimum(at_or_before(ends, chunk), n - 1)
        first = (chunk - (ends - own)[sequence]) * per_chunk
        used = jnp.where(chunk < ends[-1], needed[sequence], 0)
        return _join(state, sequence, _part(queries, pages, rule, per_chunk, sequence, first, used)), None

    rows = (n, r, hk, g)
    state = jnp.full(rows, LOW, F32), jnp.zeros(rows, F32), jnp.zeros((*rows, value_dim), F32)
    steps = -(-chunks // together)
    order = jnp.arange(steps * together, dtype=jnp.int32)
    if not symbolic.is_symbolic(steps) and steps == 1:
        state, _ = step(state, order)
    else:
        state, _ = jax.lax.scan(step, state, order.reshape(steps, together))
    top, total, acc = state
    seen = ~(top <= LOW)
    out = acc / jnp.where(seen, total, 1.0)[..., None]
    lse = jnp.where(seen, top + jnp.log(jnp.where(seen, total, 1.0)), -jnp.inf)
    return finished(out, lse, queries, rule, seen.any((2, 3)))


def _part(queries: Queries, pages: Pages, rule: Rule, per_chunk: int, sequence, first, used):
    """(largest score, sum of exponentials, weighted sum) [chunks, R, Hk, G, ...] of each chunk's keys."""
    index = first[:, None] + jnp.arange(per_chunk, dtype=jnp.int32)
    page = pages.lookup(sequence, index)
    there = (page >= 0) & (page < pages.total) & (index < used[:, None])
    k, v, k_scale, v_scale = pages.read(jnp.where(there, page, 0))
    dtype, keys = queries.q.dtype, per_chunk * pages.size
    k, v = (x.reshape(-1, keys, *x.shape[3:]).astype(dtype if x.dtype.itemsize == 1 else x.dtype) for x in (k, v))
    position = (index[:, :, None] * pages.size + jnp.arange(pages.size, dtype=jnp.int32)).reshape(-1, keys)
    begin, end, anchor = (x[sequence] for x in (queries.begin, queries.end, queries.anchor))
    exists = jnp.repeat(there, pages.size, axis=1)
    mask = exists[:, None] & (begin[:, :, None] <= position[:, None]) & (position[:, None] < end[:, :, None])
    raw = dot("nrhgd,nkhd->nrhgk", queries.q[sequence], k)
    s = rule.score(raw if k_scale is None else raw * by_key(k_scale), position - anchor[:, None])
    s = jnp.where(mask[:, :, None, None], jnp.maximum(s, LOW), LOW)
    top = jnp.max(s, axis=-1)
    p = jnp.where(s <= LOW, 0.0, jnp.exp(s - top[..., None]))
    total = jnp.sum(p, axis=-1)
    v, finite = finite_copy(v)
    shown = mask[:, :, None, None] & ~finite.swapaxes(1, 2)[:, None, :, None]
    if v_scale is not None:
        p = jnp.where(s <= LOW, 0.0, p * by_key(v_scale))
    p = jnp.where(shown, jnp.nan, p)
    return top, total, dot("nrhgk,nkhd->nrhgd", p.astype(v.dtype), v)


def _join(state, sequence, part):
    """The state of each sequence with its parts; a part without keys changes nothing."""
    (top, total, acc), (top1, total1, acc1) = state, part
    new = top.at[sequence].max(top1)
    keep, share = jnp.exp(top - new), jnp.exp(top1 - new[sequence])

    def add(x, parts):
        return x.at[sequence].add(parts)  # not a segment sum, whose number of segments cannot be symbolic

    return new, add(total * keep, total1 * share), add(acc * keep[..., None], acc1 * share[..., None])
