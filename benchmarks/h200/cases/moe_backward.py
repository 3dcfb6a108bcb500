"""The gradient of a mixture of experts against float64 sums over tokens and slots; activations by differences."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from benchmarks.h200.case import Arrays, Case, bf16, f32, normal, rounded, wide
from benchmarks.h200.cases import moe

STEP = 1e-6  # of the central difference: exact to about 1e-10 of float64 values of order one


def _slopes(h: np.ndarray, inter: int, p: dict[str, Any]) -> np.ndarray:
    """Of each column of the first product: the derivative of the element of the activation that it is a part of."""
    columns = np.arange(len(h))
    element = columns if len(h) == inter else columns // 2 if p["gate_mode"] == "interleave" else columns % inter

    def beside(side: int) -> np.ndarray:
        return np.array([moe.activated(h + side * STEP * (columns == j), inter, p, exact=True)[element[j]] for j in columns])

    return (beside(1) - beside(-1)) / (2 * STEP)


def oracle(a: Arrays, p: dict[str, Any]) -> list[np.ndarray | None]:
    x, w1, w2, d_out, kept = (wide(a[n]) for n in ("hidden_states", "w1", "w2", "d_out", "gate_up"))
    (experts, columns, _), inter = w1.shape, w2.shape[2]
    d_x, d_w1, d_w2, d_weight = np.zeros_like(x), np.zeros_like(w1), np.zeros_like(w2), np.zeros(a["topk_ids"].shape)
    for t, s in np.ndindex(*d_weight.shape):
        e = moe.local_expert(a, t, s)
        if e == experts:
            continue
        weight, h = float(a["topk_weight"][t, s]), kept[t, s]
        act, q = moe.activated(h, inter, p, exact=True), rounded(d_out[t] @ w2[e], bf16)
        d_weight[t, s] = act @ q
        element = np.arange(columns) if columns == inter else np.arange(columns) // 2
        element = element if columns == inter or p["gate_mode"] == "interleave" else np.arange(columns) % inter
        d_h = rounded(_slopes(h, inter, p) * q[element] * weight, bf16)
        d_x[t] += rounded(d_h @ w1[e], bf16)
        d_w1[e] += np.outer(d_h, x[t])
        d_w2[e] += np.outer(d_out[t], rounded(act * weight, bf16))
    return [d_x, d_w1, d_w2, d_weight, None, None]


def error(a: Arrays, p: dict[str, Any], got: list[np.ndarray]) -> float:
    """Five bfloat16 roundings on the way to a weight's gradient add like noise: a relative rms of 2^-8 * sqrt(5), and no element
    further off than 8 of these."""
    bound, worst = 2.0**-8 * 5**0.5, 0.0
    for have, want in zip(got, oracle(a, p), strict=True):
        if want is None:
            continue
        off = np.abs(wide(have) - want)
        rms = np.sqrt(np.mean(np.square(want))) + 1e-30
        worst = max(worst, np.sqrt(np.mean(np.square(off))) / (bound * rms), off.max() / (8 * bound * np.abs(want).max() + 1e-30))
    return float("nan") if any(np.isnan(wide(x)).any() for x in got) else float(worst)


def case(tokens: int, experts: int, topk: int, d: int, inter: int, **more: Any) -> Case:
    like = moe.case(tokens, experts, topk, d, inter, "none", bf16, op="fused_moe_keeping", **more)

    def make(rng: np.random.Generator) -> Arrays:
        a = like.make(rng)
        rows = (tokens, topk, a["w1"].shape[1])
        return {"d_out": normal(rng, tokens, d), **a, "gate_up": normal(rng, *rows)}

    def results(a: Arrays) -> list[tuple[tuple[int, ...], Any]]:
        shapes = [(a[n].shape, kind) for n, kind in (("hidden_states", f32), ("w1", bf16), ("w2", bf16), ("topk_weight", f32))]
        return [*shapes, ((0, 0), f32), ((0, 0), f32)]

    return dataclasses.replace(like, op="fused_moe_backward", make=make, results=results, oracle=oracle, check=error)


def cases() -> list[Case]:
    """Slots of nobody, experts elsewhere and without rows, more rows of an expert than a block; columns that no tile divides."""
    found = [case(9, 8, 2, 96, 40, bad_ids=True), case(33, 8, 2, 256, 128, masked=True, local=29)]
    found += [case(150, 2, 2, 136, 72), case(17, 8, 2, 64, 48, settings=moe.SWIGLU)]
    return [*found, case(17, 4, 2, 64, 48, activation="gelu", rows=1)]
