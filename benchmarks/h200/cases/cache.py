"""Writers of paged caches, and rotations of queries and keys with and without them."""

from __future__ import annotations

import numpy as np

from benchmarks.h200.case import Arrays, Case, bf16, f16, f32, i32, normal, wide
from benchmarks.h200.cases import cache_heads
from benchmarks.h200.cases.cache_oracle import case, exactly, slots, stored, tables, turned, written


def cases(fp8: np.dtype) -> list[Case]:
    found = [_concat(t, dtype, (512, 64)) for t in (1, 7, 130) for dtype in (bf16, fp8)]
    found += [_concat(7, f32, (96, 24)), _concat(7, f16, (512, 64)), _concat(7, fp8, (96, 24))]
    found += [_rope_mla(t, h, dtype, bf16, style) for t, h, style in ((3, 1, "gptj"), (130, 16, "neox")) for dtype in (fp8, bf16)]
    found += [_rope_mla(5, 3, fp8, fp8, "gptj"), _rope_mla(5, 3, f16, f32, "neox", (96, 24))]
    pairs = [(1, 1, 1, 16, "neox", 16), (33, 8, 2, 128, "neox", 64), (1025, 8, 2, 64, "gptj", 64), (65, 4, 4, 64, "gptj", 32)]
    return [*found, *cache_heads.cases(fp8), *(_two(*p) for p in pairs)]


def _mla(rng, tokens: int, dtype: np.dtype, sizes: tuple[int, int]) -> dict[str, np.ndarray]:
    of, (latent, rotary) = bf16 if dtype.itemsize == 1 else dtype, sizes
    cache = normal(rng, 20, 16, 1, latent + rotary, dtype=dtype)
    return {"kv_c": normal(rng, tokens, latent, dtype=of), "k_pe": normal(rng, tokens, rotary, dtype=of), "kv_cache": cache}


def _write_mla(a: Arrays, k_pe: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    cache = a["kv_cache"]
    rows = stored(np.concatenate([wide(a["kv_c"]), k_pe], -1), scale, cache.dtype)
    return written(cache.reshape(-1, cache.shape[-1]), a["slot_mapping"], rows).reshape(cache.shape)


def _concat(tokens: int, dtype: np.dtype, sizes: tuple[int, int]) -> Case:
    """By a scale that is a power of two, so that what is stored is exact."""

    def make(rng):
        arrays = {**_mla(rng, tokens, dtype, sizes), "slot_mapping": slots(rng, tokens, 320)}
        return arrays | ({"scale": np.full(1, 2.0**-8, f32)} if dtype.itemsize == 1 else {})

    def oracle(a, p):
        return [_write_mla(a, wide(a["k_pe"]), a.get("scale"))]

    results = lambda a: [(a["kv_cache"].shape, a["kv_cache"].dtype)]  # noqa: E731
    name = f"{tokens}x{sizes[0]}x{sizes[1]}-{dtype.name}"
    return case("concat_and_cache_mla", name, make, {"head_axis": True}, results, oracle, exactly)


def _rope_mla(
    tokens: int, heads: int, dtype: np.dtype, q_dtype: np.dtype, style: str, sizes: tuple[int, int] = (512, 64)
) -> Case:  # fmt: skip
    def make(rng):
        mla = _mla(rng, tokens, dtype, sizes)
        queries = {
            f"q_{n}": normal(rng, tokens, heads, s, dtype=mla["kv_c"].dtype) for n, s in zip(("nope", "pe"), sizes, strict=True)
        }
        where = {"slot_mapping": slots(rng, tokens, 320), "positions": rng.integers(-2, 66, tokens).astype(i32)}
        kinds = {"k_scale": dtype, "q_scale": q_dtype}
        scales = {n: np.full(1, 0.004, f32) for n, kind in kinds.items() if kind.itemsize == 1}
        return {**queries, **mla, **where, **tables(rng, sizes[1] // 2), **scales}

    def oracle(a, p):
        q = np.concatenate([wide(a["q_nope"]), turned(a["q_pe"], a, style)], -1)
        k = turned(a["k_pe"][:, None], a, style)[:, 0]
        # Wider queries than the tokens are as rounded as those, which the check of one spacing of theirs would not allow.
        q = wide(q.astype(f32).astype(a["q_pe"].dtype)) if q_dtype == f32 else stored(q, a.get("q_scale"), q_dtype)
        return [q, k, _write_mla(a, k, a.get("k_scale"))]

    def results(a):
        shape = (tokens, heads, sum(sizes))
        return [(shape, q_dtype), (a["k_pe"].shape, a["k_pe"].dtype), (a["kv_cache"].shape, dtype)]

    params = {"rotate_style": style, "reuse_freqs_front_part": True, "q_out_dtype": q_dtype, "head_axis": True}
    name = f"{tokens}x{heads}-{style}-{dtype.name}-{q_dtype.name}"
    return case("fused_qk_rope_concat_and_cache_mla", name, make, params, results, oracle)


def _two(tokens: int, heads: int, kv_heads: int, width: int, style: str, rotary: int) -> Case:
    def make(rng):
        arrays = {"q": normal(rng, tokens, heads, width), "k": normal(rng, tokens, kv_heads, width)}
        return {**arrays, **tables(rng, rotary // 2), "positions": rng.integers(-2, 66, tokens).astype(i32)}

    def oracle(a, p):
        return [turned(a[n], a, style) for n in "qk"]

    params = {"rotate_style": style, "reuse_freqs_front_part": True, "nope_first": False}
    name = f"{tokens}x{heads}x{kv_heads}x{width}-{style}-{rotary}"
    return case("rope_2c", name, make, params, lambda a: [(a[n].shape, bf16) for n in "qk"], oracle)
