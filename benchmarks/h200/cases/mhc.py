"""A layer's result written back to several streams of residuals (hyper-connections), against float64."""

from __future__ import annotations

import numpy as np

from benchmarks.h200.case import Arrays, Case, bf16, f16, f32, normal, uniform, wide


def cases() -> list[Case]:
    """Widths and tokens that fill no block; one stream, and as many as the kernel unrolls."""
    return [post(5, 4, 33, bf16), post(70, 2, 300, f16), post(3, 1, 7, f32), post(2, 16, 40, bf16), post(129, 4, 512, bf16)]


def written(a: Arrays, p: dict) -> list[np.ndarray]:
    x, residual, weights, comb = (wide(a[name]) for name in ("x", "residual", "post_layer_mix", "comb_res_mix"))
    return [weights[..., None] * x[:, None] + np.einsum("thj,thc->tjc", comb, residual)]


def post(tokens: int, streams: int, width: int, dtype: np.dtype) -> Case:
    def make(rng):
        a = {"x": normal(rng, tokens, width, dtype=dtype), "residual": normal(rng, tokens, streams, width, dtype=dtype)}
        mixes = {"post_layer_mix": uniform(rng, tokens, streams), "comb_res_mix": uniform(rng, tokens, streams, streams, low=0.0)}
        return a | mixes

    results = lambda a: [(a["residual"].shape, dtype)]  # noqa: E731
    # In float32 each of the streams' products is rounded, and their sum with each.
    roundings = 4.0 if dtype == f32 else 1.0
    return Case("mhc_post", f"T{tokens}-n{streams}-H{width}-{dtype.name}", make, {}, results, written, roundings=roundings)
