"""All cases for one architecture, and the shapes that are timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.h200 import attention, dense, moe
from benchmarks.h200.case import Arrays, Case, bf16, i32, normal, uniform
from jax_aiter.core.arch import FP8


def checked(arch: str) -> list[Case]:
    """Correctness: every covered op at several sizes."""
    fp8 = np.dtype(FP8[arch])
    return [*dense.cases(fp8, saturating=arch.startswith("sm_")), *attention.cases(fp8), *moe.cases(fp8)]


@dataclasses.dataclass(frozen=True)
class Timed:
    """A shape to time: `moved` bytes through memory at least, `work` floating-point operations."""

    case: Case
    moved: float
    work: float


def timed(arch: str) -> list[Timed]:
    """The shapes of the benchmark table."""
    fp8 = np.dtype(FP8[arch])
    found = [_rms_norm(4096, 8192)]
    found += [_moe(t, 8, 2, 4096, 1024, q, fp8) for q in ("none", "per_token") for t in (1, 16, 256, 1024, 4096)]
    found += [_moe(t, 64, 8, 7168, 512, "none", fp8) for t in (1, 16, 256, 1024, 4096)]
    found += [_paged(b, length) for b, length in ((1, 4096), (32, 2048), (64, 8192))]
    found += [_gemm(m, n, k, fp8) for m, n, k in ((16, 4096, 4096), (256, 7168, 2048), (4096, 4096, 4096))]
    return found


def _no_oracle(a: Arrays, p: dict[str, Any]) -> list:
    raise NotImplementedError("timed shapes are compared with the reference lowering, not with an oracle")


def _timed(op: str, name: str, make: Callable, params: dict, results: Callable) -> Case:
    return Case(op, name, make, params, results, _no_oracle)


def _rms_norm(rows: int, columns: int) -> Timed:
    make = lambda rng: {"x": normal(rng, rows, columns), "weight": normal(rng, columns)}  # noqa: E731
    case = _timed("rms_norm", f"{rows}x{columns}", make, {"epsilon": 1e-6}, lambda a: [((rows, columns), bf16)])
    return Timed(case, 4.0 * rows * columns, 4.0 * rows * columns)


def _gemm(m: int, n: int, k: int, fp8: np.dtype) -> Timed:
    def make(rng):
        scales = {"x_scale": uniform(rng, m, 1), "w_scale": uniform(rng, n, 1)}
        return {"xq": normal(rng, m, k, dtype=fp8), "wq": normal(rng, n, k, dtype=fp8), **scales}

    case = _timed("gemm_a8w8", f"{m}x{n}x{k}", make, {"out_dtype": bf16}, lambda a: [((m, n), bf16)])
    return Timed(case, m * k + n * k + 2.0 * m * n, 2.0 * m * n * k)


def _paged(batch: int, length: int, hq: int = 64, hk: int = 8, d: int = 128, block: int = 16) -> Timed:
    def make(rng):
        width = length // block
        tables = rng.permutation(batch * width).reshape(batch, width).astype(i32)
        caches = {n: normal(rng, batch * width, hk, block, d) for n in ("key_cache", "value_cache")}
        lens = np.full(batch, length, i32)
        return {"query": normal(rng, batch, hq, d), **caches, "block_tables": tables, "context_lens": lens}

    params = {"scale": d**-0.5, "logits_soft_cap": 0.0, "sliding_window": 0, "kv_layout": "HND"}
    params |= {"ragged": False, "per_token_scales": False}
    case = _timed("paged_attention", f"B{batch}-L{length}", make, params, lambda a: [((batch, hq, d), bf16)])
    return Timed(case, 4.0 * batch * length * hk * d, 4.0 * batch * length * hq * d)


def _moe(tokens: int, experts: int, topk: int, d: int, inter: int, quant: str, fp8: np.dtype) -> Timed:
    case = dataclasses.replace(moe.case(tokens, experts, topk, d, inter, quant, fp8), oracle=_no_oracle)
    weights = (2 if quant == "none" else 1) * 3.0 * min(experts, tokens * topk) * d * inter
    return Timed(case, weights + 4.0 * tokens * d, 6.0 * tokens * topk * d * inter)
