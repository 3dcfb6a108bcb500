"""Writers of caches of keys and values by heads: alone, with scales of their own, after a rotation, after a norm and a rotation."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.h200.case import Arrays, Case, bf16, f16, f32, i8, i32, normal, wide
from benchmarks.h200.cases.cache_oracle import (
    blocked,
    case,
    compared,
    exactly,
    largest,
    rows_of,
    slots,
    stored,
    tables,
    turned,
    written,
)

LAYOUTS = ("NHD", "HND", "vllm", "asm")
BLOCKS, SIZE, EPSILON = 40, 16, 1e-6
NAMES = ("key_cache", "value_cache")


def cases(fp8: np.dtype) -> list[Case]:
    dtypes = (fp8, bf16, i8, f32)
    found = [_reshape(7, 3, 128, dtype, layout) for dtype in dtypes for layout in LAYOUTS]
    found += [_reshape(131, 2, 96, f16, "NHD"), _pertoken(7, 2, 96, i8, "NHD")]
    found += [_pertoken(7, 3, 128, fp8, layout) for layout in LAYOUTS]
    shapes = [(5, 4, 2, 64, "gptj"), (7, 3, 3, 128, "neox"), (131, 8, 2, 128, "neox"), (257, 32, 4, 64, "gptj")]
    found += [_rope(*s, layout, bf16) for s, layout in zip(shapes, LAYOUTS, strict=True)]
    found += [_rope(*shapes[1], layout, fp8) for layout in LAYOUTS]
    found += [_rope(5, 5, 2, 96, "neox", "vllm", f16, rotary=32), _rope(5, 4, 1, 80, "gptj", "HND", f32, rotary=32)]
    found += [
        _rope(7, 8, 2, 128, style, layout, fp8, norm=True) for layout, style in zip(LAYOUTS, ("neox", "gptj") * 2, strict=True)
    ]
    found += [
        _rope(131, 32, 4, 128, "neox", "NHD", bf16, norm=True),
        _rope(5, 6, 2, 128, "neox", "asm", bf16, rotary=64, norm=True),
    ]
    return found


def _caches(rng, heads: int, width: int, dtype: np.dtype, layout: str) -> dict[str, np.ndarray]:
    filled = {i8: lambda *shape: rng.integers(-127, 128, shape).astype(i8)}.get(dtype, lambda *s: normal(rng, *s, dtype=dtype))
    found = {}
    for name in NAMES:
        plain = filled(BLOCKS, SIZE, heads, width)
        found[name] = np.ascontiguousarray(blocked(plain, layout, name.split("_")[0], 16 // dtype.itemsize))
    return found


def _scales(dtype: np.dtype, value: float) -> dict[str, np.ndarray]:
    return {n: np.full(1, value, f32) for n in ("k_scale", "v_scale")} if dtype.itemsize == 1 else {}


def _both(a: Arrays, layout: str, key: np.ndarray, value: np.ndarray) -> list[np.ndarray]:
    """Both caches with rows that are coded already."""
    like, found = (BLOCKS, SIZE, *key.shape[1:]), []
    for name, rows in zip(NAMES, (key, value), strict=True):
        plain, order = rows_of(a[name], layout, name.split("_")[0], 16 // a[name].dtype.itemsize, like)
        found.append(written(plain, a["slot_mapping"], rows).reshape(-1)[order])
    return found


def _reshape(tokens: int, heads: int, width: int, dtype: np.dtype, layout: str) -> Case:
    """By scales that are powers of two, so that what is stored is exact."""
    of = bf16 if dtype.itemsize == 1 else dtype

    def make(rng):
        rows = {n: normal(rng, tokens, heads, width, dtype=of) for n in ("key", "value")}
        where = {"slot_mapping": slots(rng, tokens, BLOCKS * SIZE)}
        return {**rows, **_caches(rng, heads, width, dtype, layout), **where, **_scales(dtype, 2.0**-6 if dtype == i8 else 2.0**-8)}

    def oracle(a, p):
        rows = (stored(wide(a[n]), a.get(f"{n[0]}_scale"), dtype) for n in ("key", "value"))
        return _both(a, layout, *(np.rint(x) if dtype == i8 else x for x in rows))

    name = f"{tokens}x{heads}x{width}-{layout}-{dtype.name}"
    results = lambda a: [(a[n].shape, dtype) for n in NAMES]  # noqa: E731
    return case("reshape_and_cache", name, make, {"kv_layout": layout}, results, oracle, exactly)


def _pertoken(tokens: int, heads: int, width: int, dtype: np.dtype, layout: str) -> Case:
    scales = ("k_dequant_scales", "v_dequant_scales")

    def make(rng):
        rows = {n: normal(rng, tokens, heads, width) for n in ("key", "value")}
        rows["key"] = rows["key"] * (np.arange(tokens) > 0).astype(bf16)[:, None, None]  # a row of zeros has a scale too
        own = {n: normal(rng, BLOCKS, heads, SIZE, dtype=f32) for n in scales}
        return {**rows, **_caches(rng, heads, width, dtype, layout), **own, "slot_mapping": slots(rng, tokens, BLOCKS * SIZE)}

    def oracle(a, p):
        by = [np.maximum(np.abs(wide(a[n])).max(-1, keepdims=True), 1e-10) / largest(dtype) for n in ("key", "value")]
        found = _both(a, layout, *(wide(a[n]) / s for n, s in zip(("key", "value"), by, strict=True)))
        for name, scale in zip(scales, by, strict=True):
            plain = a[name].transpose(0, 2, 1).reshape(-1, heads)
            new = written(plain, a["slot_mapping"], scale[..., 0])
            found.append(new.reshape(BLOCKS, SIZE, heads).transpose(0, 2, 1))
        return found

    name = f"{tokens}x{heads}x{width}-{layout}-{dtype.name}"
    results = lambda a: [*((a[n].shape, dtype) for n in NAMES), *((a[n].shape, f32) for n in scales)]  # noqa: E731
    return case("reshape_and_cache_with_pertoken_quant", name, make, {"kv_layout": layout}, results, oracle)


def _normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rounded to its dtype, as the ops one after another do."""
    wide_x = wide(x)
    y = wide_x / np.sqrt((wide_x**2).mean(-1, keepdims=True) + EPSILON) * wide(weight)
    return y.astype(f32).astype(x.dtype)


def _rope(
    tokens: int, heads: int, kv_heads: int, width: int, style: str, layout: str, dtype: np.dtype,
    *, rotary: int | None = None, norm: bool = False,
) -> Case:  # fmt: skip
    of = bf16 if dtype.itemsize == 1 else dtype

    def make(rng):
        found: dict[str, Any] = {
            n: normal(rng, tokens, h, width, dtype=of) for n, h in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        }
        if norm:
            found |= {"q_weight": normal(rng, width, dtype=of), "k_weight": normal(rng, width, dtype=f32)}
        where = {"slot_mapping": slots(rng, tokens, BLOCKS * SIZE), "positions": rng.integers(-2, 66, tokens).astype(i32)}
        rest = {**tables(rng, (rotary or width) // 2), **_scales(dtype, 0.004)}
        return {**found, **_caches(rng, kv_heads, width, dtype, layout), **where, **rest}

    def oracle(a, p):
        q, k = (turned(_normed(a[n], a[f"{n}_weight"]) if norm else a[n], a, style) for n in "qk")
        rows = (stored(x, a.get(f"{n}_scale"), dtype) for n, x in (("k", k), ("v", wide(a["v"]))))
        return [q, k, *_both(a, layout, *rows)]

    def results(a):
        return [*((a[n].shape, of) for n in "qk"), *((a[n].shape, dtype) for n in NAMES)]

    params = {"rotate_style": style, "reuse_freqs_front_part": True, "nope_first": False, "kv_layout": layout}
    params |= {"epsilon": EPSILON} if norm else {}
    name = f"{tokens}x{heads}x{kv_heads}x{width}-{style}-{rotary or width}-{layout}-{dtype.name}"
    op = "fused_qk_norm_rope_cache" if norm else "rope_and_cache"
    return case(op, name, make, params, results, oracle, _after_a_norm if norm else compared)


def _after_a_norm(oracle) -> Any:
    """A norm in float32 may round to the neighbour, by which a sum of two products and a code may be one or two further off."""
    check = compared(oracle)
    return lambda a, p, got: check(a, p, got) / 3
