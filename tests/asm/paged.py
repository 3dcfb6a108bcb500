"""Decode attention over a paged cache in float64, and a restatement of how AITER's kernels quantise queries and weights.

Kernels of fp8 and int8 caches multiply 8-bit numbers. Per query row they scale the query to the cache type's largest number (those
of scales per block to 240 on gfx950 too) and round (fp8) or truncate (int8) it; per row and tile of 256 keys they do the same with
the softmax weights times the values' scales, while the sum that normalises them is of the unrounded weights. "hp" kernels leave the
weights of the last, incomplete tile alone, "uhp" kernels leave all weights alone.
"""

import dataclasses

import jax.numpy as jnp
import ml_dtypes
import numpy as np

HEAD_DIM, TILE = 128, 256
ULP = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # half the spacing of numbers relative to the power of two below them


@dataclasses.dataclass
class Problem:
    """Sequences with their blocks in random order: query [T, Hq, 128], keys and values as cached [nb, bs, Hk, 128]."""

    query: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    k_scale: np.ndarray | None
    v_scale: np.ndarray | None
    tables: np.ndarray
    lengths: np.ndarray
    qo_indptr: np.ndarray

    @property
    def caches(self):
        """The "asm" layout."""
        blocks, size, heads, _ = self.keys.shape
        x = 16 // self.keys.dtype.itemsize
        k = self.keys.transpose(0, 2, 3, 1).reshape(blocks, heads, HEAD_DIM // x, x, size).swapaxes(3, 4)
        v = self.values.transpose(0, 2, 1, 3).reshape(blocks, heads, size // x, x, HEAD_DIM).swapaxes(3, 4)
        return jnp.asarray(k), jnp.asarray(v)

    @property
    def max_qlen(self):
        return int(np.diff(self.qo_indptr).max())

    def sequence(self, b):
        """keys, values [L, Hk, 128] and their scales [L, Hk] in float64."""
        blocks = self.tables[b]
        flat = [x[blocks].astype(np.float64).reshape(-1, *x.shape[2:])[: self.lengths[b]] for x in (self.keys, self.values)]
        scales = []
        for s in (self.k_scale, self.v_scale):
            if s is None:
                scale = np.ones(flat[0].shape[:2])
            elif s.ndim == 2:
                scale = np.repeat(s[blocks].astype(np.float64), self.keys.shape[1], axis=0)[: self.lengths[b]]
            else:
                scale = s[blocks].astype(np.float64).swapaxes(1, 2).reshape(-1, s.shape[1])[: self.lengths[b]]
            scales.append(scale)
        return *flat, *scales


def problem(
    lengths, heads=1, group=8, *, dtype="bfloat16", cache=None, block=16, queries=1, spare=0, seed=0, per_block=False
) -> Problem:
    rng = np.random.default_rng(seed)
    counts = np.broadcast_to(queries, len(lengths))
    columns = max(max(-(-n // block) for n in lengths), 1) + spare
    blocks = len(lengths) * columns + 1
    tables = rng.permutation(blocks)[: blocks - 1].reshape(len(lengths), columns).astype(np.int32)
    kind = jnp.dtype(cache or dtype)
    shape = (blocks, block, heads, HEAD_DIM)
    scales = [None, None]
    if kind == jnp.int8:
        data = [rng.integers(-127, 128, shape).astype(np.int8) for _ in range(2)]
        unit = 70
    elif kind.itemsize == 1:
        data = [np.clip(50 * rng.standard_normal(shape, np.float32), -220, 220).astype(kind) for _ in range(2)]
        unit = 50
    else:
        data = [rng.standard_normal(shape, np.float32).astype(kind) for _ in range(2)]
        unit = None
    if unit:
        axes = (blocks, heads) if per_block else (blocks, heads, block)
        scales = [(rng.uniform(0.5, 1.5, axes) / unit).astype(np.float32) for _ in range(2)]
    query = rng.standard_normal((int(counts.sum()), heads * group, HEAD_DIM), np.float32).astype(jnp.dtype(dtype))
    qo_indptr = np.cumsum([0, *counts]).astype(np.int32)
    return Problem(query, *data, *scales, tables, np.array(lengths, np.int32), qo_indptr)


def quantise(x, kind, top):
    """Rows of x as the kernels see them: scaled to `top`, in float32."""
    scale = np.float32(1) / np.maximum(np.abs(x).max(-1, keepdims=True), 1e-6).astype(np.float32) * np.float32(top)
    y = x.astype(np.float32) * scale
    y = np.trunc(y) if kind == np.int8 else y.astype(kind)
    return y.astype(np.float64) / scale.astype(np.float64)


def attention(p: Problem, weights: str | None = None, step: np.ndarray | None = None):
    """float64 attention [T, Hq, 128].

    weights: None is exact; "tiles" quantises queries and the weights of every tile, "whole tiles" not those of the last incomplete
    one, "none" only the queries. `step`, if given, receives per row the largest effect of one weight's changing by one quantum.
    """
    out = np.zeros(p.query.shape)
    kind, group = p.keys.dtype, p.query.shape[1] // p.keys.shape[2]
    query = p.query.astype(np.float64)
    top = 0.0
    if weights is not None:
        per_block = p.k_scale is not None and p.k_scale.ndim == 2
        top = 127 if kind == np.int8 else 240 if per_block else float(ml_dtypes.finfo(kind).max)
        query = quantise(query, kind, top)
    for b, length in enumerate(p.lengths):
        keys, values, k_scale, v_scale = p.sequence(b)
        rows = range(p.qo_indptr[b], p.qo_indptr[b + 1])
        for i in rows:
            end = length - (rows[-1] - i)
            if end <= 0:
                continue
            for h in range(query.shape[1]):
                g = h // group
                s = keys[:end, g] @ query[i, h] * k_scale[:end, g] / np.sqrt(HEAD_DIM)
                e = np.exp(s - s.max())
                for t in range(0, end, TILE):
                    part, seen = (e * v_scale[:end, g])[t : t + TILE], values[t : min(t + TILE, end), g]
                    if step is not None:
                        unit = part.max() / 127 if kind == np.int8 else part.max() / 8
                        step[i, h] = max(step[i, h], (unit / e.sum()) * np.abs(seen).max())
                    if weights == "tiles" or (weights == "whole tiles" and t + TILE <= length):
                        part = quantise(part, kind, top)
                    out[i, h] += part @ seen / e.sum()
    return out


def error(got, want) -> float:
    """The largest error, in units of two ulps of the output's dtype at its row's largest value."""
    ulps = 2 * 2 * ULP[got.dtype.name]
    size = np.maximum(np.abs(want).max(-1, keepdims=True), 1e-30)
    return float((np.abs(np.asarray(got, np.float64) - want) / (size * ulps)).max(initial=0.0))
