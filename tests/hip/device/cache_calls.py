"""Calls of AITER's HIP cache writers: every instance that its host code can choose, with the caches restated element by element."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np

from tests.attention.oracle import cache_shapes, key_element, store, value_element
from tests.oracle import ROUNDOFF, assert_within, draw, f64
from tests.quantised import assert_quantised

FLOATS = ("bfloat16", "float16", "float32")
BLOCKS, SIZE = 3, 16
SCALES = ("k_scale", "v_scale")
#: one negative, two past the capacity of 48, and neighbours.
SLOTS = np.array([3, 47, -1, 16, 15, 48, 2**31 - 1, 31], np.int32)
KEPT = [(i, int(slot)) for i, slot in enumerate(SLOTS) if 0 <= slot < BLOCKS * SIZE]


def cache_calls(make, fp8: str):
    """make: of (op, name, operands, params, check)."""
    return [*_copied(make, fp8), *_latents(make, fp8), *_by_token(make, fp8), *_rotated_latents(make)]


def _old(shape, dtype):
    """What stands in a cache: numbers that every dtype has; those that no token replaces are NaN where the dtype has one."""
    x = np.asarray(jnp.asarray(np.random.default_rng(len(shape)).integers(-9, 9, shape), dtype)).copy()
    if dtype != "int8":
        x[-1] = np.asarray(jnp.asarray(np.full(shape[1:], np.nan), dtype))  # the last block is written in part
    return x


def _written(old, element, layout, rows, x):
    """(the cache as float64 with the rows in their places, where they are)."""
    want, where = f64(old), np.zeros(old.shape, bool)
    for token, slot in KEPT:
        store(want, element, layout, slot, f64(rows[token]), SIZE, x)
        store(where, element, layout, slot, np.ones(rows.shape[1:], bool), SIZE, x)
    return want, where


def _unchanged(got, old, where):
    bits = f"uint{8 * old.dtype.itemsize}"
    got = np.asarray(got)
    assert got.dtype == old.dtype
    np.testing.assert_array_equal(got.view(bits)[~where], old.view(bits)[~where])


def _close(got, want, where, scale, fp8):
    """Copies are exact; quotients are rounded to fp8 by half a step."""
    got = np.asarray(got)
    if fp8 is None:
        np.testing.assert_array_equal(f64(got)[where], want[where])
    else:
        rows, codes = want[where].reshape(1, -1), jnp.asarray(got[where].reshape(1, -1))
        assert_quantised(codes, np.float32(scale), rows, np.zeros_like(rows), fp8, given=True)


def _copied(make, fp8: str):
    scales = ((None, None), (0.02, 0.05))
    for layout, dtype, quantised, (heads, size) in itertools.product(
        ("NHD", "vllm", "asm"), FLOATS, (False, True), ((2, 16), (5, 128))
    ):
        kind = fp8 if quantised else dtype
        x = 16 // jnp.dtype(kind).itemsize
        given = scales[heads % 2] if quantised else scales[0]
        rows = [draw(seed, len(SLOTS), heads, size, dtype=dtype, std=9.0) for seed in range(2)]
        if quantised:
            rows = [r.at[1].multiply(1e3).at[3, 0, 0].set(jnp.inf) for r in rows]  # saturate
        old = [_old(shape, kind) for shape in cache_shapes(layout, BLOCKS, SIZE, heads, size, x)]
        operands = {"key": rows[0], "value": rows[1], "key_cache": old[0], "value_cache": old[1], "slot_mapping": SLOTS}
        operands |= {} if given[0] is None else {n: jnp.array([s], jnp.float32) for n, s in zip(SCALES, given, strict=True)}

        def check(out, old=old, rows=rows, layout=layout, x=x, given=given, kind=fp8 if quantised else None):
            for got, before, of, element, scale in zip(out, old, rows, (key_element, value_element), given, strict=True):
                want, where = _written(before, element, layout, of, x)
                _unchanged(got, before, where)
                _close(got, want, where, scale or 1.0, kind)

        yield make("reshape_and_cache", f"{layout}-{dtype}-{kind}-{heads}x{size}", operands, {"kv_layout": layout}, check)


def _latents(make, fp8: str):
    """Eight elements at a time, or one where a size is no multiple of eight."""
    for dtype, quantised, (latent, rotary) in itertools.product(FLOATS, (False, True), ((16, 8), (512, 64), (2056, 8), (21, 6))):
        kind = fp8 if quantised else dtype
        scale = 0.03 if quantised and latent != 16 else None
        parts = [draw(seed, len(SLOTS), n, dtype=dtype, std=4.0) for seed, n in enumerate((latent, rotary))]
        old = _old((BLOCKS, SIZE, latent + rotary), kind)
        operands = {"kv_c": parts[0], "k_pe": parts[1], "kv_cache": old, "slot_mapping": SLOTS}
        operands |= {} if scale is None else {"scale": jnp.array([scale], jnp.float32)}

        def check(out, old=old, parts=parts, scale=scale, kind=fp8 if quantised else None):
            rows = jnp.concatenate(parts, -1)[:, None]
            want, where = (x.reshape(old.shape) for x in _written(old[:, :, None], key_element, "NHD", rows, 1))
            _unchanged(out[0], old, where)
            _close(out[0], want, where, scale or 1.0, kind)

        yield make("concat_and_cache_mla", f"{dtype}-{kind}-{latent}+{rotary}", operands, {"head_axis": False}, check)


def _turned(x, cos, sin, style):
    """Rotated in float64, and what float32 errs: two products and their sum."""
    half = x.shape[-1] // 2
    a, b = (x[..., :half], x[..., half:]) if style == "neox" else (x[..., ::2], x[..., 1::2])
    turned = a * cos - b * sin, b * cos + a * sin
    error = np.abs(a * cos) + np.abs(b * sin), np.abs(b * cos) + np.abs(a * sin)
    joined = []
    for pair in (turned, error):
        joined.append(np.concatenate(pair, -1) if style == "neox" else np.stack(pair, -1).reshape(x.shape))
    return joined[0], 4 * ROUNDOFF["float32"] * joined[1]


def _rotated_latents(make):
    """The kernel for DeepSeek's sizes, by the number of heads: a thread takes 4 or 8 elements of a latent, 256 threads a token."""
    latent, rotary, rows = 512, 64, 7
    for dtype, style, heads in itertools.product(FLOATS, ("gptj", "neox"), (4, 5, 16)):
        shapes = (heads, latent), (heads, rotary), (latent,), (rotary,)
        q_nope, q_pe, kv_c, k_pe = (draw(seed, len(SLOTS), *shape, dtype=dtype, std=3.0) for seed, shape in enumerate(shapes))
        angle = np.random.default_rng(heads).uniform(-3, 3, (rows, rotary // 2))
        cos, sin = (jnp.asarray(f(angle), dtype) for f in (np.cos, np.sin))
        positions = np.array([0, 6, 3, -5, 1, 2, 100, 5], np.int32)  # of which two are outside of the tables
        old = _old((BLOCKS, SIZE, 1, latent + rotary), dtype)
        operands = {"q_nope": q_nope, "q_pe": q_pe, "kv_c": kv_c, "k_pe": k_pe, "kv_cache": old, "slot_mapping": SLOTS}
        operands |= {"positions": positions, "cos": cos, "sin": sin}
        params = {"rotate_style": style, "reuse_freqs_front_part": True, "q_out_dtype": jnp.dtype(dtype), "head_axis": True}
        c, s = (f64(x)[np.clip(positions, 0, rows - 1)] for x in (cos, sin))

        def check(out, old=old, given=(q_nope, q_pe, kv_c, k_pe), c=c, s=s, style=style):
            q_out, k_out, cache = out
            nope, pe, latents, keys = (f64(x) for x in given)
            assert_within(q_out[..., :latent], nope, 0 * nope)
            assert_within(q_out[..., latent:], *_turned(pe, c[:, None], s[:, None], style))
            turned, error = _turned(keys, c, s, style)
            assert_within(k_out, turned, error)
            if old.dtype == "bfloat16":  # AITER stores keys by truncation, queries rounded
                error = error + ROUNDOFF["bfloat16"] * np.abs(turned)
            where = np.zeros(old.shape, bool)
            for token, slot in KEPT:
                row = cache[slot // SIZE, slot % SIZE, 0]
                where[slot // SIZE, slot % SIZE] = True
                assert_within(row[:latent], latents[token], 0 * latents[token])
                assert_within(row[latent:], turned[token], error[token])
            _unchanged(cache, old, where)

        yield make("fused_qk_rope_concat_and_cache_mla", f"{dtype}-{style}-{heads}", operands, params, check)


def _by_token(make, fp8: str):
    sizes = (("asm", 3, 32), ("asm", 1, 512), ("vllm", 1, 80))
    for (layout, heads, size), dtype, kind in itertools.product(sizes, FLOATS, (fp8, "int8")):
        rows = [draw(seed, len(SLOTS), heads, size, dtype=dtype, std=5.0).at[4, 0].set(0) for seed in range(2)]
        old = [_old(shape, kind) for shape in cache_shapes(layout, BLOCKS, SIZE, heads, size, 16)]
        scales = [_old((BLOCKS, heads, SIZE), "float32") for _ in rows]
        operands = {"key": rows[0], "value": rows[1], "key_cache": old[0], "value_cache": old[1]}
        operands |= {"k_dequant_scales": scales[0], "v_dequant_scales": scales[1], "slot_mapping": SLOTS}

        def check(out, old=old, rows=rows, scales=scales, layout=layout, kind=kind):
            for i, element in enumerate((key_element, value_element)):
                _, where = _written(old[i], element, layout, rows[i], 16)
                _unchanged(out[i], old[i], where)
                places = np.zeros(scales[i].shape, bool)
                for token, slot in KEPT:
                    codes = np.empty(rows[i].shape[1:], out[i].dtype)
                    for head, d in np.ndindex(codes.shape):
                        codes[head, d] = np.asarray(out[i])[element(layout, 16, slot // SIZE, slot % SIZE, head, d)]
                    scale = np.asarray(out[i + 2])[slot // SIZE, :, slot % SIZE, None]
                    places[slot // SIZE, :, slot % SIZE] = True
                    want = f64(rows[i][token])
                    assert_quantised(jnp.asarray(codes), scale, want, 0 * want, kind)
                _unchanged(out[i + 2], scales[i], places)

        name = f"{layout}-{dtype}-{kind}-{heads}x{size}"
        yield make("reshape_and_cache_with_pertoken_quant", name, operands, {"kv_layout": layout}, check)
