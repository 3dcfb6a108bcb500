"""Writers of paged caches, and rotations of queries and keys with and without them."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.h200.case import SPACING, Arrays, Case, bf16, f32, fp8_max, i32, normal, wide

LAYOUTS = ("NHD", "HND", "vllm", "asm")


def cases(fp8: np.dtype, saturating: bool) -> list[Case]:
    """saturating: the target's conversion to fp8 saturates by itself, which keys that are rotated in a kernel rely on."""
    rotated = (bf16, fp8) if saturating else (bf16,)
    found = [_concat(t, dtype, fp8) for t in (1, 7, 130) for dtype in (bf16, fp8)]
    found += [_rope_mla(t, heads, dtype, style) for t, heads, style in ((3, 1, "gptj"), (130, 16, "neox")) for dtype in rotated]
    shapes = [(5, 4, 2, 64, "gptj"), (7, 3, 3, 128, "neox"), (131, 8, 2, 128, "neox"), (257, 32, 4, 64, "gptj")]
    found += [_rope_and_cache(*s, layout, bf16, fp8) for s, layout in zip(shapes, LAYOUTS, strict=True)]
    found += [_rope_and_cache(*shapes[1], layout, fp8, fp8) for layout in LAYOUTS if saturating]
    pairs = [(1, 1, 1, 16, "neox", 16), (33, 8, 2, 128, "neox", 64), (1025, 8, 2, 64, "gptj", 64), (65, 4, 4, 64, "gptj", 32)]
    return found + [_two(*p) for p in pairs]


def _slots(rng: np.random.Generator, tokens: int, capacity: int) -> np.ndarray:
    """All different; the second and the last token have none: one is negative, one past the end."""
    slots = rng.permutation(capacity)[:tokens].astype(i32)
    if tokens > 2:
        slots[1], slots[-1] = -1, capacity + 3
    return slots


def _tables(rng: np.random.Generator, columns: int, positions: int = 64) -> dict[str, np.ndarray]:
    angles = rng.uniform(-3, 3, (positions, columns))
    return {"cos": np.cos(angles).astype(f32), "sin": np.sin(angles).astype(f32)}


def _turned(x: np.ndarray, a: Arrays, style: str) -> np.ndarray:
    """x [T, H, D] rotated in its first 2R elements, in float64."""
    c, s = (wide(a[n])[np.clip(a["positions"], 0, len(a[n]) - 1)][:, None] for n in ("cos", "sin"))
    pairs, out = c.shape[-1], wide(x).copy()
    i = np.arange(pairs)
    first, second = (i, i + pairs) if style == "neox" else (2 * i, 2 * i + 1)
    u, v = out[..., first].copy(), out[..., second].copy()
    out[..., first], out[..., second] = u * c - v * s, v * c + u * s
    return out


def _stored(x: np.ndarray, scale: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """What a cache of this dtype holds of x, unrounded."""
    if dtype.itemsize > 1:
        return x
    return np.clip(x / (1.0 if scale is None else float(scale[0])), -fp8_max(dtype), fp8_max(dtype))


def _error(got: np.ndarray, want: np.ndarray) -> float:
    """Error over one spacing of the dtype (a rotation in float32 moves a value to a neighbour at most); copies have none."""
    spacing, least = (2.0**-3, 2.0**-9) if got.dtype.itemsize == 1 else (SPACING[got.dtype.name], 1e-6)
    return float(np.max(np.abs(wide(got) - want) / (spacing * np.abs(want) + least), initial=0.0))


def _compared(oracle) -> Any:
    return lambda a, p, got: max(_error(g, w) for g, w in zip(got, oracle(a, p), strict=True))


def _case(op: str, name: str, make, params: dict[str, Any], results, oracle) -> Case:
    return Case(op, name, make, params, results, oracle, check=_compared(oracle))


def _written(cache: np.ndarray, slots: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """cache [slots, ...] in float64 with rows [T, ...]."""
    out = wide(cache).copy()
    for slot, row in zip(slots, rows, strict=True):
        if 0 <= slot < len(out):
            out[slot] = row
    return out


def _mla(rng, tokens: int, dtype: np.dtype) -> dict[str, np.ndarray]:
    cache = normal(rng, 20, 16, 1, 576, dtype=dtype)
    return {"kv_c": normal(rng, tokens, 512), "k_pe": normal(rng, tokens, 64), "kv_cache": cache}


def _write_mla(a: Arrays, k_pe: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    cache = a["kv_cache"]
    rows = _stored(np.concatenate([wide(a["kv_c"]), k_pe], -1), scale, cache.dtype)
    return _written(cache.reshape(-1, 576), a["slot_mapping"], rows).reshape(cache.shape)


def _concat(tokens: int, dtype: np.dtype, fp8: np.dtype) -> Case:
    def make(rng):
        arrays = {**_mla(rng, tokens, dtype), "slot_mapping": _slots(rng, tokens, 320)}
        return arrays | ({"scale": np.full(1, 2.0**-7, f32)} if dtype == fp8 else {})

    def oracle(a, p):
        return [_write_mla(a, wide(a["k_pe"]), a.get("scale"))]

    results = lambda a: [(a["kv_cache"].shape, a["kv_cache"].dtype)]  # noqa: E731
    return _case("concat_and_cache_mla", f"{tokens}-{dtype.name}", make, {"head_axis": True}, results, oracle)


def _rope_mla(tokens: int, heads: int, dtype: np.dtype, style: str) -> Case:
    def make(rng):
        queries = {"q_nope": normal(rng, tokens, heads, 512), "q_pe": normal(rng, tokens, heads, 64)}
        where = {"slot_mapping": _slots(rng, tokens, 320), "positions": rng.integers(-2, 66, tokens).astype(i32)}
        scale = {"k_scale": np.full(1, 0.02, f32)} if dtype.itemsize == 1 else {}
        return {**queries, **_mla(rng, tokens, dtype), **where, **_tables(rng, 32), **scale}

    def oracle(a, p):
        q = np.concatenate([wide(a["q_nope"]), _turned(a["q_pe"], a, style)], -1)
        k = _turned(a["k_pe"][:, None], a, style)[:, 0]
        return [q, k, _write_mla(a, k, a.get("k_scale"))]

    def results(a):
        return [((tokens, heads, 576), bf16), ((tokens, 64), bf16), (a["kv_cache"].shape, dtype)]

    params = {"rotate_style": style, "reuse_freqs_front_part": True, "q_out_dtype": bf16, "head_axis": True}
    name = f"{tokens}x{heads}-{style}-{dtype.name}"
    return _case("fused_qk_rope_concat_and_cache_mla", name, make, params, results, oracle)


def _blocked(x: np.ndarray, layout: str, which: str, vector: int) -> np.ndarray:
    """A cache [nb, bs, H, D] in a layout."""
    blocks, size, heads, width = x.shape
    if layout == "NHD":
        return x
    if layout == "HND":
        return x.transpose(0, 2, 1, 3)
    if which == "key":
        return x.reshape(blocks, size, heads, width // vector, vector).transpose(0, 2, 3, 1, 4)
    if layout == "vllm":
        return x.transpose(0, 2, 3, 1)
    return x.reshape(blocks, size // vector, vector, heads, width).transpose(0, 3, 1, 4, 2)


def _rope_and_cache(tokens, heads, kv_heads, width, style, layout: str, dtype: np.dtype, fp8: np.dtype) -> Case:
    blocks, size, vector = 40, 16, 16 // dtype.itemsize

    def make(rng):
        arrays = {"q": normal(rng, tokens, heads, width)}
        arrays |= {n: normal(rng, tokens, kv_heads, width) for n in "kv"}
        for which in ("key", "value"):
            plain = normal(rng, blocks, size, kv_heads, width, dtype=dtype)
            arrays[f"{which}_cache"] = np.ascontiguousarray(_blocked(plain, layout, which, vector))
        where = {"slot_mapping": _slots(rng, tokens, blocks * size), "positions": rng.integers(-2, 66, tokens).astype(i32)}
        scales = {n: np.full(1, 0.02, f32) for n in ("k_scale", "v_scale")} if dtype == fp8 else {}
        return {**arrays, **where, **_tables(rng, width // 2), **scales}

    def oracle(a, p):
        k = _turned(a["k"], a, style)
        numbers, found = np.arange(blocks * size * kv_heads * width), []
        for which, rows in (("key", k), ("value", wide(a["v"]))):
            # Where each element of the layout stands in [slots, H, D].
            order = _blocked(numbers.reshape(blocks, size, kv_heads, width), layout, which, vector)
            plain = np.empty(numbers.size)
            plain[order.reshape(-1)] = wide(a[f"{which}_cache"]).reshape(-1)
            rows = _stored(rows, a.get(f"{which[0]}_scale"), dtype)
            found.append(_written(plain.reshape(-1, kv_heads, width), a["slot_mapping"], rows).reshape(-1)[order])
        return [_turned(a["q"], a, style), k, *found]

    def results(a):
        return [(a["q"].shape, bf16), (a["k"].shape, bf16), *((a[n].shape, dtype) for n in ("key_cache", "value_cache"))]

    params = {"rotate_style": style, "reuse_freqs_front_part": True, "nope_first": False, "kv_layout": layout}
    name = f"{tokens}x{heads}x{kv_heads}x{width}-{style}-{layout}-{dtype.name}"
    return _case("rope_and_cache", name, make, params, results, oracle)


def _two(tokens: int, heads: int, kv_heads: int, width: int, style: str, rotary: int) -> Case:
    def make(rng):
        arrays = {"q": normal(rng, tokens, heads, width), "k": normal(rng, tokens, kv_heads, width)}
        return {**arrays, **_tables(rng, rotary // 2), "positions": rng.integers(-2, 66, tokens).astype(i32)}

    def oracle(a, p):
        return [_turned(a[n], a, style) for n in "qk"]

    params = {"rotate_style": style, "reuse_freqs_front_part": True, "nope_first": False}
    name = f"{tokens}x{heads}x{kv_heads}x{width}-{style}-{rotary}"
    return _case("rope_2c", name, make, params, lambda a: [(a[n].shape, bf16) for n in "qk"], oracle)
