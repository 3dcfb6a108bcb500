"""The calls of attention and of kernels that move bytes whose tiles are searched for the shipped table:
python -m benchmarks.h200.tile_shapes_attention FILE [--ops NAMES].

On the device, what is measured being kept where a time limit cuts a search off:
    python -m benchmarks.h200.tile_shapes_attention calls.json --ops mla_decode_fwd,flash_attention,flash_attention_bwd
    jax-aiter tune --shapes calls.json --out tuned.json --budget 400
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.h200 import tile_shapes
from benchmarks.h200.case import Case, i32, normal
from benchmarks.h200.shapes import _dense, _latent, _packed, cached, call, rows
from benchmarks.h200.tune_shapes import described

ARCH = "sm_90"
#: B, S, Hq, Hk, D of dense attention.
DENSE = ((4, 2048, 16, 4, 128), (1, 8192, 16, 16, 128), (2, 4096, 32, 8, 64))
#: B, L, Hq, Hk of decoding over blocks of 16 tokens, by the op for decoding and by that for any queries.
UNIFIED = ((1, 2048, 32, 4), (64, 2048, 32, 4))
DECODE = ((64, 8192, 64, 8), (1, 32768, 64, 8), (16, 2048, 32, 8), (1, 4096, 32, 8))
#: kernels that reach the card's copy rate with AITER's own warps (docs/h200.md) are not searched.
ROWS = ("rms_norm", "rms_norm_with_add", "gelu_and_mul", "silu_and_mul", "rope", "topk_softmax")


def paged(b: int, length: int, h: int, hk: int, d: int = 128, block: int = 16) -> Case:
    """Every sequence as long as its table can hold, its blocks anywhere."""

    def make(rng):
        width = length // block
        caches = {name: normal(rng, b * width, hk, block, d) for name in ("key_cache", "value_cache")}
        tables = rng.permutation(b * width).reshape(b, width).astype(i32)
        return {"query": normal(rng, b, h, d), **caches, "context_lens": np.full(b, length, i32), "block_tables": tables}

    params = {"scale": d**-0.5, "logits_soft_cap": 0.0, "sliding_window": 0, "kv_layout": "HND"}
    params |= {"ragged": False, "per_token_scales": False}
    return call("paged_attention", f"B{b}-L{length}", make, ARCH, **params)


def unified(b: int, length: int, h: int, hk: int, d: int = 128, block: int = 16) -> Case:
    """A step of decoding as a serving engine makes it: one query for each sequence, the last of its tokens."""

    def make(rng):
        width = length // block
        caches = {name: normal(rng, b * width, block, hk, d) for name in ("key_cache", "value_cache")}
        tables = rng.permutation(b * width).reshape(b, width).astype(i32)
        lengths = {"cu_seqlens_q": np.arange(b + 1, dtype=i32), "context_lens": np.full(b, length, i32)}
        return {"q": normal(rng, b, h, d), **caches, **lengths, "block_tables": tables}

    params = {"scale": d**-0.5, "causal": True, "logits_soft_cap": 0.0, "sliding_window": 0, "kv_layout": "NHD"}
    return call("unified_attention", f"{b}x1-L{length}", make, ARCH, **params, per_token_scales=False)


def calls() -> list[dict[str, Any]]:
    """All calls, what matters most first."""
    cases = [_dense(b, s, d, back, ARCH, h, hk)[0] for back in (False, True) for b, s, h, hk, d in DENSE]
    decode = [paged(*size) for size in DECODE]
    cases = [*cases[:3], *decode[:2], *(entry[0] for entry in cached(ARCH)), *cases[3:], *decode[2:]]
    cases += [_latent(32, 2048, ARCH, page=1)[0], _latent(1, 8192, ARCH, heads=16)[0]]
    memory = {case.op: case for case, *_ in rows(ARCH, np.dtype(ml_dtypes.float8_e4m3fn))}
    cases += [*(memory[op] for op in ROWS), *(_packed(8, 512, 128, back, ARCH)[0] for back in (False, True))]
    return [described(case) for case in [*cases, *(unified(*size) for size in UNIFIED)]]


if __name__ == "__main__":
    tile_shapes.write(calls())
