"""Calls of AITER's HIP kernel that normalises and rotates heads and writes the cache: layouts, styles, sizes of a head."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np

from tests.attention.oracle import cache_shapes, key_element, value_element
from tests.oracle import ROUNDOFF, assert_within, draw, f64

from .cache_calls import BLOCKS, FLOATS, SIZE, SLOTS, _old, _turned, _unchanged, _written

ROWS = 7  # of the tables
POSITIONS = np.array([0, 6, 3, -5, 1, 2, 100, 5], np.int32)  # of which two are outside of them
#: layout, style, elements of a head, of them rotated, heads of queries and of keys.
KINDS = [
    ("NHD", "neox", 128, 128, 4, 2),
    ("asm", "gptj", 128, 64, 3, 1),
    ("NHD", "gptj", 256, 256, 2, 2),
    ("NHD", "neox", 256, 80, 5, 3),
    ("asm", "neox", 64, 48, 2, 1),
]


def normed_calls(make):
    """make: of (op, name, operands, params, check)."""
    for dtype, kind in itertools.product(FLOATS, KINDS):
        yield _call(make, dtype, *kind)


def _call(make, dtype, layout, style, size, rotary, heads, kv_heads):
    q, k, v = (draw(seed, len(SLOTS), n, size, dtype=dtype, std=3.0) for seed, n in enumerate((heads, kv_heads, kv_heads)))
    weights = [draw(seed, size, dtype=dtype) for seed in (3, 4)]
    angle = np.random.default_rng(heads).uniform(-3, 3, (ROWS, rotary // 2))
    cos, sin = (jnp.asarray(f(angle), dtype) for f in (np.cos, np.sin))
    x = 16 // jnp.dtype(dtype).itemsize
    old = [_old(shape, dtype) for shape in cache_shapes(layout, BLOCKS, SIZE, kv_heads, size, x)]
    operands = {"q": q, "k": k, "v": v, "q_weight": weights[0], "k_weight": weights[1], "key_cache": old[0], "value_cache": old[1]}
    operands |= {"slot_mapping": SLOTS, "positions": POSITIONS, "cos": cos, "sin": sin}
    params = {"epsilon": 1e-6, "rotate_style": style, "reuse_freqs_front_part": True, "nope_first": False, "kv_layout": layout}
    c, s = (f64(table)[np.clip(POSITIONS, 0, ROWS - 1)][:, None] for table in (cos, sin))

    def check(out):
        wants = [_wanted(f64(rows), f64(w), c, s, style, rotary, dtype) for rows, w in zip((q, k), weights, strict=True)]
        for got, want in zip(out[:2], wants, strict=True):
            assert_within(got, *want)
        keys, error = (_placed(rows, old[0], layout, x) for rows in wants[1])
        _, where = _written(old[0], key_element, layout, k, x)
        assert_within(np.asarray(out[2])[where], keys[where], error[where])
        _unchanged(out[2], old[0], where)
        values, where = _written(old[1], value_element, layout, v, x)
        np.testing.assert_array_equal(f64(out[3])[where], values[where])
        _unchanged(out[3], old[1], where)

    name = f"{dtype}-{layout}-{style}-{heads}+{kv_heads}x{size}-{rotary}"
    return make("fused_qk_norm_rope_cache", name, operands, params, check)


def _placed(rows, old, layout, x):
    want, _ = _written(np.zeros(old.shape, old.dtype), key_element, layout, rows, x)
    return want


def _wanted(x, weight, c, s, style, rotary, dtype):
    """In float64, and what rounding the norm to the dtype errs, and float32 in the sum, the root, and the rotation's products."""
    normed = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1e-6) * weight
    turned, error = _turned(normed[..., :rotary], c, s, style)
    units = (ROUNDOFF[dtype] + 24 * ROUNDOFF["float32"]) / (4 * ROUNDOFF["float32"])  # of the products' magnitudes
    want = np.concatenate([turned, normed[..., rotary:]], -1)
    return want, np.concatenate([error * (1 + units), 24 * ROUNDOFF["float32"] * np.abs(normed[..., rotary:])], -1)
