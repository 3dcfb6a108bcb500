"""Calls to time of the ops that have one shape each, and of attention over whole sequences."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from benchmarks.h200.case import Arrays, Case, bf16, f32, i32, normal, uniform
from jax_aiter.core.config import config
from jax_aiter.ops.catalogue import all_ops

#: (case, bytes through memory at least, floating-point operations)
Sized = tuple[Case, float, float]


def call(op: str, name: str, make, arch: str, **params: Any) -> Case:
    """A case whose operand order and results follow from the op's own record. The reference lowering stands in for an oracle."""

    def ordered(rng) -> Arrays:
        whole = make(rng)
        return {n: whole[n] for n in all_ops()[op].operands if n in whole}

    def results(arrays: Arrays):
        structs = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in arrays.items()}
        with config(arch=arch):
            return [(r.shape, np.dtype(r.dtype)) for r in all_ops()[op].infer(structs, params)]

    def no_oracle(a: Arrays, p: dict[str, Any]) -> list:
        raise NotImplementedError("timed shapes are compared with the reference lowering, not with an oracle")

    return Case(op, name, ordered, params, results, no_oracle)


def rows(arch: str, fp8: np.dtype) -> list[Sized]:
    """Memory-bound ops: `passes` bytes per element of x, read and written."""

    def one(op: str, r: int, c: int, passes: float, others=lambda rng: {}, **params: Any) -> Sized:
        return call(op, f"{r}x{c}", lambda rng: {"x": normal(rng, r, c), **others(rng)}, arch, **params), passes * r * c, 0.0

    quant = {"quant_dtype": fp8}
    return [
        one("rms_norm", 4096, 8192, 4, lambda rng: {"weight": normal(rng, 8192)}, epsilon=1e-6),
        one("rms_norm_with_add", 4096, 8192, 8,
            lambda rng: {"residual": normal(rng, 4096, 8192), "weight": normal(rng, 8192)}, epsilon=1e-6),
        one("silu_and_mul", 4096, 2 * 14336, 3, limit=0.0),
        one("gelu_and_mul", 4096, 2 * 14336, 3, limit=0.0),
        one("per_tensor_quant", 4096, 8192, 3, **quant),
        one("per_token_quant", 4096, 8192, 3, **quant),
        one("group_quant", 4096, 7168, 3, **quant, group_size=128, transpose_scale=False),
        (call("topk_softmax", "4096x256-k8", lambda rng: {"gating_output": normal(rng, 4096, 256)}, arch, topk=8, renormalize=True),
         4096 * (2 * 256 + 8 * 8), 0.0),
        _rope(4096, 32, 128, arch),
    ]  # fmt: skip


def _rope(tokens: int, heads: int, d: int, arch: str, known: int = 8192) -> Sized:
    def make(rng):
        angles = np.random.default_rng(0).uniform(-3, 3, (known, d // 2))
        a = {"x": normal(rng, tokens, heads, d), "cos": np.cos(angles).astype(f32), "sin": np.sin(angles).astype(f32)}
        return {**a, "positions": np.arange(tokens, dtype=i32)}

    params = {"rotate_style": "neox", "reuse_freqs_front_part": True, "nope_first": False}
    return call("rope", f"{tokens}x{heads}x{d}", make, arch, **params), 4.0 * tokens * heads * d, 0.0


def gemms(arch: str, fp8: np.dtype) -> list[Sized]:
    def sized(case: Case, b: int, m: int, n: int, k: int, itemsize: int) -> Sized:
        return case, b * (itemsize * (m * k + n * k) + 2.0 * m * n), 2.0 * b * m * n * k

    def scaled(m: int, n: int, k: int) -> Sized:
        def make(rng):
            scales = {"x_scale": uniform(rng, m, 1), "w_scale": uniform(rng, n, 1)}
            return {"xq": normal(rng, m, k, dtype=fp8), "wq": normal(rng, n, k, dtype=fp8), **scales}

        return sized(call("gemm_a8w8", f"{m}x{n}x{k}", make, arch, out_dtype=bf16), 1, m, n, k, 1)

    def block(m: int, n: int, k: int) -> Sized:
        def make(rng):
            scales = {"x_scale": uniform(rng, m, k // 128), "w_scale": uniform(rng, n // 128, k // 128)}
            return {"xq": normal(rng, m, k, dtype=fp8), "wq": normal(rng, n, k, dtype=fp8), **scales}

        return sized(call("gemm_a8w8_blockscale", f"{m}x{n}x{k}", make, arch, out_dtype=bf16), 1, m, n, k, 1)

    def plain(m: int, n: int, k: int) -> Sized:
        make = lambda rng: {"a": normal(rng, m, k), "b": normal(rng, n, k)}  # noqa: E731
        return sized(call("gemm_a16w16", f"{m}x{n}x{k}", make, arch, out_dtype=bf16), 1, m, n, k, 2)

    def batched(op: str, b: int, m: int, n: int, k: int, dtype: np.dtype) -> Sized:
        def make(rng):
            a = {"XQ": normal(rng, b, m, k, dtype=dtype), "WQ": normal(rng, b, n, k, dtype=dtype)}
            return a if dtype == bf16 else {**a, "x_scale": uniform(rng, b, m, 1), "w_scale": uniform(rng, b, n, 1)}

        return sized(call(op, f"{b}x{m}x{n}x{k}", make, arch, out_dtype=bf16), b, m, n, k, dtype.itemsize)

    sizes = ((16, 4096, 4096), (256, 7168, 2048), (4096, 4096, 4096))
    return [
        *(scaled(*size) for size in sizes),
        block(256, 7168, 2048),
        plain(16, 4096, 4096),
        plain(4096, 4096, 4096),
        batched("batched_gemm_bf16", 16, 256, 1024, 1024, bf16),
        batched("batched_gemm_a8w8", 16, 256, 1024, 1024, fp8),
    ]


def sequences(arch: str) -> list[Sized]:
    """Dense and packed attention, forward and backward; 32 query heads, 8 key heads, causal: half of the scores count."""
    dense = [_dense(b, n, d, back, arch) for b, n in ((4, 2048), (1, 8192)) for d in (64, 128) for back in (False, True)]
    return [*dense, _packed(8, 512, 128, False, arch), _packed(8, 512, 128, True, arch)]


def _attention(b: int, n: int, h: int, hk: int, d: int, backward: bool) -> tuple[float, float]:
    """Bytes and operations: two products forward; backward five, and q, k, v, out, dout read, dq, dk, dv written."""
    q, k, product = 2.0 * b * n * h * d, 2.0 * b * n * hk * d, b * h * n * n * d
    return (4 * q + 4 * k, 5.0 * product) if backward else (2 * q + 2 * k, 2.0 * product)


def _flash_params(d: int) -> dict[str, Any]:
    return {"scale": d**-0.5, "causal": True, "sliding_window": (-1, -1), "logits_soft_cap": 0.0, "alibi_per_sequence": False}


def _dense(b: int, n: int, d: int, backward: bool, arch: str, h: int = 32, hk: int = 8) -> Sized:
    def make(rng):
        a = {"q": normal(rng, b, n, h, d), "k": normal(rng, b, n, hk, d), "v": normal(rng, b, n, hk, d)}
        return {**a, **_back(rng, a, (b, h, n))} if backward else a

    params = {**_flash_params(d), **({"with_bias": False} if backward else {})}
    op = "flash_attention_bwd" if backward else "flash_attention"
    return (call(op, f"{b}x{n}-d{d}", make, arch, **params), *_attention(b, n, h, hk, d, backward))


def _back(rng, a: Arrays, rows: tuple[int, ...]) -> Arrays:
    """A log-sum-exp above every score, as a forward pass gives it: probabilities stay below 1."""
    return {"dout": normal(rng, *a["q"].shape), "out": normal(rng, *a["q"].shape), "lse": np.full(rows, 9.0, f32)}


def _packed(b: int, n: int, d: int, backward: bool, arch: str, h: int = 32, hk: int = 8) -> Sized:
    def make(rng):
        a = {"q": normal(rng, b * n, h, d), "k": normal(rng, b * n, hk, d), "v": normal(rng, b * n, hk, d)}
        bounds = np.arange(b + 1, dtype=i32) * n
        return {**a, **(_back(rng, a, (h, b * n)) if backward else {}), "cu_seqlens_q": bounds, "cu_seqlens_k": bounds}

    op = "flash_attention_varlen_bwd" if backward else "flash_attention_varlen"
    params = {**_flash_params(d), "max_seqlen_q": n, "max_seqlen_k": n}
    return (call(op, f"{b}x{n}-d{d}", make, arch, **params), *_attention(b, n, h, hk, d, backward))


def cached(arch: str) -> list[Sized]:
    """Prefill beside decode over a paged cache, and latent attention."""
    return [_ragged(31, 512, 2048, arch), _latent(32, 2048, arch)]


def _ragged(decoding: int, chunk: int, length: int, arch: str, h: int = 32, hk: int = 8, d: int = 128, block: int = 16) -> Sized:
    lengths = np.array([1] * decoding + [chunk])

    def make(rng):
        sequences, width = len(lengths), length // block
        caches = {n: normal(rng, sequences * width, block, hk, d) for n in ("key_cache", "value_cache")}
        tables = rng.permutation(sequences * width).reshape(sequences, width).astype(i32)
        bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(i32)
        whole = {"q": normal(rng, int(lengths.sum()), h, d), **caches, "cu_seqlens_q": bounds}
        return {**whole, "context_lens": np.full(sequences, length, i32), "block_tables": tables}

    params = {"scale": d**-0.5, "causal": True, "sliding_window": 0, "logits_soft_cap": 0.0, "kv_layout": "NHD"}
    case = call("unified_attention", f"{decoding}x1+{chunk}-L{length}", make, arch, **params, per_token_scales=False)
    return case, 4.0 * len(lengths) * length * hk * d, 4.0 * lengths.sum() * length * h * d


def _latent(b: int, length: int, arch: str, heads: int = 128, page: int = 64, rank: int = 512, rope: int = 64) -> Sized:
    def make(rng):
        pages = b * length // page
        return {
            "q": normal(rng, b, heads, rank + rope),
            "kv_buffer": normal(rng, pages, page, 1, rank + rope),
            "qo_indptr": np.arange(b + 1, dtype=i32),
            "kv_indptr": np.arange(b + 1, dtype=i32) * (length // page),
            "kv_indices": rng.permutation(pages).astype(i32),
            "kv_last_page_lens": np.full(b, page, i32),
        }

    params = {"max_seqlen_qo": 1, "sm_scale": (rank + rope) ** -0.5, "logit_cap": 0.0, "causal": True, "return_lse": True}
    work = 2.0 * b * length * heads * (2 * rank + rope)
    return call("mla_decode_fwd", f"B{b}-L{length}", make, arch, **params), 2.0 * b * length * (rank + rope), work
