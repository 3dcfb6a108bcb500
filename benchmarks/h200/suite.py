"""All cases for one architecture, and the shapes that are timed."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.h200 import shapes
from benchmarks.h200.case import Case, i32, normal
from benchmarks.h200.cases import (
    attention,
    cache,
    dense,
    fp4_products,
    fused,
    grouped,
    indexer,
    linear,
    mhc,
    microscale,
    moe,
    moe_backward,
    products,
)
from jax_aiter.core.arch import FP8


def checked(arch: str) -> list[Case]:
    """Correctness: every covered op at several sizes."""
    fp8 = np.dtype(FP8[arch])
    saturating = arch.startswith("sm_")
    rows = [*dense.cases(fp8, saturating), *fused.cases(fp8), *products.cases(fp8), *microscale.cases(arch)]
    rows += [*fp4_products.cases(arch), *attention.cases(fp8), *linear.cases(), *mhc.cases(), *indexer.cases(fp8)]
    return [*rows, *moe.cases(fp8), *moe_backward.cases(), *grouped.cases(), *cache.cases(fp8)]


@dataclasses.dataclass(frozen=True)
class Timed:
    """A shape to time: `moved` bytes through memory at least, `work` floating-point operations."""

    case: Case
    moved: float
    work: float


def timed(arch: str) -> list[Timed]:
    """The shapes of the benchmark table: every covered op."""
    fp8 = np.dtype(FP8[arch])
    found = [_moe(t, 8, 2, 4096, 1024, q, fp8, arch) for q in ("none", "per_token") for t in (1, 16, 256, 1024, 4096)]
    found += [_moe(t, 64, 8, 7168, 512, "none", fp8, arch) for t in (1, 16, 256, 1024, 4096)]
    found += [_paged(b, length, arch) for b, length in ((1, 4096), (32, 2048), (64, 8192))]
    found += _grouped(32768, 64, 4096, 4096)
    rest = [*shapes.cached(arch), *shapes.gemms(arch, fp8), *shapes.rows(arch, fp8), *shapes.sequences(arch)]
    return [*found, *(Timed(*sized) for sized in rest)]


def _grouped(rows: int, groups: int, k: int, n: int) -> list[Timed]:
    sizes, work = [rows // groups] * groups, 2.0 * rows * k * n
    moved = 2.0 * (rows * k + groups * k * n + rows * n)
    return [Timed(case, moved, work) for case in (grouped.forward(rows, sizes, k, n), grouped.weights(rows, sizes, k, n))]


def _paged(batch: int, length: int, arch: str, hq: int = 64, hk: int = 8, d: int = 128, block: int = 16) -> Timed:
    def make(rng):
        width = length // block
        tables = rng.permutation(batch * width).reshape(batch, width).astype(i32)
        caches = {n: normal(rng, batch * width, hk, block, d) for n in ("key_cache", "value_cache")}
        lens = np.full(batch, length, i32)
        return {"query": normal(rng, batch, hq, d), **caches, "block_tables": tables, "context_lens": lens}

    params = {"scale": d**-0.5, "logits_soft_cap": 0.0, "sliding_window": 0, "kv_layout": "HND"}
    params |= {"ragged": False, "per_token_scales": False}
    case = shapes.call("paged_attention", f"B{batch}-L{length}", make, arch, **params)
    return Timed(case, 4.0 * batch * length * hk * d, 4.0 * batch * length * hq * d)


def _moe(tokens: int, experts: int, topk: int, d: int, inter: int, quant: str, fp8: np.dtype, arch: str) -> Timed:
    like = moe.case(tokens, experts, topk, d, inter, quant, fp8)
    weights = (2 if quant == "none" else 1) * 3.0 * min(experts, tokens * topk) * d * inter
    case = shapes.call("fused_moe", like.name, like.make, arch, **like.params)
    return Timed(case, weights + 4.0 * tokens * d, 6.0 * tokens * topk * d * inter)
