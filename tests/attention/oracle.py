"""Attention and cache layouts restated in float64 numpy, one query at a time: the oracle of this family's tests."""

import numpy as np

# Half a unit in the last place of the output dtype rounds the result; the float32 sums before it lose up to about
# sqrt(keys) * 2^-24 relative to the largest value, for which 2^-17 leaves room at a few thousand keys.
ROUNDING = {"float32": 2.0**-17, "bfloat16": 2.0**-8, "float16": 2.0**-11 + 2.0**-17}


def assert_close(got, want, what=""):
    """Within one rounding of the output dtype, relative to the largest value."""
    got = np.asarray(got)
    atol = ROUNDING[got.dtype.name] * max(np.abs(want).max(initial=0.0), 1.0)
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=0, atol=atol, err_msg=what)


def attend(q, k, v, visible, *, scale, score=lambda s, h, i, keys: s, sink=None):
    """q [Sq, Hq, D], k [Sk, Hk, D], v [Sk, Hk, Dv], visible [Sq, Sk] -> (out [Sq, Hq, Dv], lse [Sq, Hq]) in float64."""
    (queries, heads, _), group = q.shape, q.shape[1] // k.shape[1]
    out, lse = np.zeros((queries, heads, v.shape[2])), np.full((queries, heads), -np.inf)
    for i in range(queries):
        keys = np.flatnonzero(visible[i])
        if not keys.size:
            continue
        for h in range(heads):
            s = score(k[keys, h // group].astype(np.float64) @ q[i, h].astype(np.float64) * scale, h, i, keys)
            everything = s if sink is None else np.append(s, sink[h])
            top = everything.max()
            total = np.exp(everything - top).sum()
            out[i, h] = np.exp(s - top) / total @ v[keys, h // group].astype(np.float64)
            lse[i, h] = top + np.log(total)
    return out, lse


def window_mask(queries, keys, causal, window=(-1, -1), chunk=0):
    position = np.arange(queries)[:, None] + keys - queries
    j = np.arange(keys)[None]
    left, right = window
    mask = np.ones((queries, keys), bool)
    if causal:
        mask &= j <= position
    if left >= 0:
        mask &= j >= position - left
    if right >= 0:
        mask &= j <= position + right
    if chunk:
        mask &= j // chunk == position // chunk
    return mask


def key_element(layout, x, block, place, head, d):
    """Index of one key element in a cache."""
    return {
        "NHD": (block, place, head, d),
        "HND": (block, head, place, d),
        "vllm": (block, head, d // x, place, d % x),
        "asm": (block, head, d // x, place, d % x),
    }[layout]


def value_element(layout, x, block, place, head, d):
    return {
        "NHD": (block, place, head, d),
        "HND": (block, head, place, d),
        "vllm": (block, head, d, place),
        "asm": (block, head, place // x, d, place % x),
    }[layout]


def cache_shapes(layout, blocks, size, heads, d, x):
    return {
        "NHD": ((blocks, size, heads, d),) * 2,
        "HND": ((blocks, heads, size, d),) * 2,
        "vllm": ((blocks, heads, d // x, size, x), (blocks, heads, d, size)),
        "asm": ((blocks, heads, d // x, size, x), (blocks, heads, size // x, d, x)),
    }[layout]


def store(cache, element, layout, slot, rows, size, x):
    """Put rows [Hk, D] at a slot, element by element."""
    for head in range(rows.shape[0]):
        for d in range(rows.shape[1]):
            cache[element(layout, x, slot // size, slot % size, head, d)] = rows[head, d]


def fill(layout, tables, lengths, keys, values, blocks, size, x, dtype, rest):
    """Caches holding keys[b] [len, Hk, D] and values[b] at the blocks of the tables, `rest` everywhere else."""
    shapes = cache_shapes(layout, blocks, size, keys[0].shape[1], keys[0].shape[2], x)
    k, v = (np.full(s, rest, dtype) for s in shapes)
    for b, n in enumerate(lengths):
        for t in range(n):
            slot = tables[b, t // size] * size + t % size
            store(k, key_element, layout, slot, keys[b][t], size, x)
            store(v, value_element, layout, slot, values[b][t], size, x)
    return k, v
