"""Attention over blocks of queries and keys: online softmax forward, recomputing backward, no array of queries x keys.

Blocks of keys outside all intervals of a block of queries (see `visible`) are skipped, which is a loop that the data ends: on a GPU
another form runs, see `rows`.

A key or value that a query does not see meets none of its arithmetic, though they share a block: it may hold NaN. What is seen and
is not finite shows, in the whole row of a query (of a key, in its gradient).

Heads are grouped: q [N, Hk, G, Sq, D], k [N, Hk, Sk, D], v [N, Hk, Sk, Dv], with G = Hq / Hk queries per key head.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import machine, symbolic
from jax_aiter.ops.attention.forms import rows, rows_backward
from jax_aiter.ops.attention.forms.softmax import F32, dot, finish, first_state, online_softmax, readable, shown, soft_cap
from jax_aiter.ops.attention.forms.visible import Keys, Scores

# A tile of scores, its keys and its values fit a CPU's L2 cache; at S = 1024, D = 64 twice the naive form's speed was measured.
BLOCK = 128


def _block_size(size: int) -> int:
    """Equal blocks of at most about BLOCK, so that padding stays below 8 per block; BLOCK where the size is symbolic."""
    if symbolic.is_symbolic(size):
        return BLOCK
    blocks = -(-size // BLOCK)
    return -(-size // (8 * blocks)) * 8


def _pad(x: jax.Array, axis: int, block: int) -> jax.Array:
    size = x.shape[axis]
    width = [(0, 0)] * x.ndim
    width[axis] = (0, -(-size // block) * block - size)
    return jnp.pad(x, width) if width[axis][1] != 0 else x


def _at(x: jax.Array, i, size: int, axis: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(x, i * size, size, axis)


class _Blocked:
    """Padded operands and the access to their blocks."""

    def __init__(self, q, k, v, keys: Keys, scores: Scores):
        self.bq, self.bk = _block_size(q.shape[3]), _block_size(k.shape[2])
        self.q = _pad(q, 3, self.bq)
        self.k, self.v = (_pad(x, 2, self.bk) for x in (k, v))
        self.keys = tuple(_pad(x, 0, self.bq) for x in keys[:3])  # padded queries see the empty interval [0, 0)
        slopes, bias = scores.slopes, scores.bias
        if slopes is not None and slopes.shape[3] != 1:
            slopes = _pad(slopes, 3, self.bq)
        if bias is not None:
            bias = _pad(_pad(bias, 0, self.bq), 1, self.bk)
        self.scores = dataclasses.replace(scores, slopes=slopes, bias=bias)
        self.query_blocks = self.q.shape[3] // self.bq

    def key_blocks(self, i):
        """The range of key blocks that any query of block i sees."""
        begin, end, _ = (_at(x, i, self.bq, 0) for x in self.keys)
        some = begin < end
        first = jnp.min(jnp.where(some, begin, self.k.shape[2])) // self.bk
        return first, (jnp.max(jnp.where(some, end, 0)) + self.bk - 1) // self.bk

    def each_key_block(self, i, step, start):
        """The fold of `step` over those blocks; one block needs no loop, since the masks say the rest."""
        if self.k.shape[2] == self.bk:
            return step(0, start)
        return jax.lax.fori_loop(*self.key_blocks(i), step, start)

    def score(self, qi, kj, i, j):
        """(capped scores before ALiBi and bias, scores, mask [bq, bk]) of one pair of blocks."""
        begin, end, diagonal = (_at(x, i, self.bq, 0)[:, None] for x in self.keys)
        index = j * self.bk + jnp.arange(self.bk)
        mask = (begin <= index) & (index < end)
        sc = self.scores
        s = capped = soft_cap(dot("nhgqd,nhkd->nhgqk", qi, kj) * sc.scale, sc.soft_cap)
        if sc.slopes is not None:
            slope = sc.slopes if sc.slopes.shape[3] == 1 else _at(sc.slopes, i, self.bq, 3)
            s = s - slope[..., None] * jnp.abs(diagonal - index).astype(F32)
        if sc.bias is not None:
            s = s + _at(_at(sc.bias, i, self.bq, 0), j, self.bk, 1).astype(F32)
        return capped, jnp.where(mask, s, -jnp.inf), mask


def forward(q, k, v, keys: Keys, scores: Scores):
    """out [N, Hk, G, Sq, Dv] in q's dtype and lse f32 [N, Hk, G, Sq], with the sinks; without keys they are 0 and -inf."""
    n, hk, g, sq, _ = q.shape
    if 0 in (n, hk, g, sq, k.shape[2]):  # a head of no dimensions is no such case: its scores are zeros
        return jnp.zeros((n, hk, g, sq, v.shape[3]), q.dtype), jnp.full((n, hk, g, sq), -jnp.inf, F32)
    if machine.is_gpu():
        return rows.forward(q, k, v, keys, scores)
    x = _Blocked(q, k, v, keys, scores)

    def block(i):
        qi = _at(x.q, i, x.bq, 3)

        def step(j, state):
            vj, finite = readable(_at(x.v, j, x.bk, 2))
            _, s, mask = x.score(qi, _at(x.k, j, x.bk, 2), i, j)
            lost = shown(finite[:, :, None], mask)[:, :, None, :, None]
            return online_softmax(state, s, lambda p: dot("nhgqk,nhkd->nhgqd", p, vj) + lost)

        begin, end, _ = (_at(y, i, x.bq, 0) for y in x.keys)
        start = first_state((n, hk, g, x.bq), v.shape[3], scores.sinks, begin < end)
        out, lse = finish(x.each_key_block(i, step, start))
        return out.astype(q.dtype), lse

    out, lse = jax.lax.map(block, jnp.arange(x.query_blocks))
    return _join(out, 3)[:, :, :, :sq], _join(lse, 3)[:, :, :, :sq]


def backward(dout, q, k, v, out, lse, keys: Keys, scores: Scores, dlse=None):
    """dq, dk, dv as float32 and dbias [Sq, Sk] (None without a bias), from the saved output and log-sum-exp.

    A sink is in the log-sum-exp and nowhere else. dlse [N, Hk, G, Sq]: the cotangent of lse, None for zeros.
    """
    sq, sk = q.shape[3], k.shape[2]
    if 0 in (*q.shape[:4], sk):
        dbias = None if scores.bias is None else jnp.zeros(scores.bias.shape, F32)
        return jnp.zeros(q.shape, F32), jnp.zeros(k.shape, F32), jnp.zeros(v.shape, F32), dbias
    if machine.is_gpu():
        return rows_backward.backward(dout, q, k, v, out, lse, keys, scores, dlse)
    x = _Blocked(q, k, v, keys, scores)
    delta = jnp.sum(dout.astype(F32) * out.astype(F32), axis=-1)
    delta = _pad(delta if dlse is None else delta - dlse, 3, x.bq)  # d lse / d score is the probability, as delta's factor is
    dout = _pad(dout, 3, x.bq)
    lse = _pad(jnp.where(lse == -jnp.inf, 0.0, lse), 3, x.bq)  # rows without keys are masked; 0 keeps inf - inf out of them
    cap, scale = scores.soft_cap, scores.scale

    def block(sums, i):
        qi, doi = _at(x.q, i, x.bq, 3).astype(F32), _at(dout, i, x.bq, 3).astype(F32)
        lse_i, delta_i = (_at(y, i, x.bq, 3)[..., None] for y in (lse, delta))
        q0, do0 = (jnp.where(jnp.isfinite(y), y, 0.0) for y in (qi, doi))
        finite = jnp.isfinite(doi).all(-1)

        def step(j, carry):
            dq, dk, dv, dbias = carry
            kj, vj = (_at(y, j, x.bk, 2).astype(F32) for y in (x.k, x.v))
            capped, s, mask = x.score(qi, kj, i, j)
            # What is not finite on one side of a score that counts is in that score, so its products may run over finite copies;
            # only dv, where a cotangent meets the probability and not the score, has to be told.
            p = jnp.exp(jnp.where(mask, s - lse_i, -jnp.inf))
            ds = jnp.where(mask, p * (dot("nhgqd,nhkd->nhgqk", doi, vj) - delta_i), 0.0)
            if dbias is not None:
                tile = ds.sum((0, 1, 2))
                dbias = jax.lax.dynamic_update_slice(dbias, tile, (i * x.bq, j * x.bk))
            if cap:
                ds = jnp.where(mask, ds * (1.0 - (capped / cap) ** 2), 0.0)
            ds = ds * scale
            dq = dq + dot("nhgqk,nhkd->nhgqd", ds, readable(kj)[0])
            dk = _add_at(dk, dot("nhgqk,nhgqd->nhkd", ds, q0), j * x.bk)
            lost = shown(finite.all(2)[:, :, None], mask.T)[..., None]
            dv = _add_at(dv, dot("nhgqk,nhgqd->nhkd", p, do0) + lost, j * x.bk)
            return dq, dk, dv, dbias

        dq, *sums = x.each_key_block(i, step, (jnp.zeros(qi.shape, F32), *sums))
        return tuple(sums), dq

    zeros = functools.partial(jnp.zeros, dtype=F32)
    start: Any = (zeros(x.k.shape), zeros(x.v.shape), None if x.scores.bias is None else zeros(x.scores.bias.shape))
    (dk, dv, dbias), dq = jax.lax.scan(block, start, jnp.arange(x.query_blocks))
    dq = _join(dq, 3)[:, :, :, :sq]
    return dq, dk[:, :, :sk], dv[:, :, :sk], None if dbias is None else dbias[:sq, :sk]


def _add_at(x: jax.Array, block: jax.Array, start) -> jax.Array:
    old = jax.lax.dynamic_slice_in_dim(x, start, block.shape[2], 2)
    return jax.lax.dynamic_update_slice_in_dim(x, old + block, start, 2)


def _join(blocks: jax.Array, axis: int) -> jax.Array:
    """[blocks, ...] with `axis` of the rest split in blocks, back to one axis."""
    moved = jnp.moveaxis(blocks, 0, axis)
    return moved.reshape(*moved.shape[:axis], moved.shape[axis] * moved.shape[axis + 1], *moved.shape[axis + 2 :])
