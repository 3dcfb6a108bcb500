"""Attention and its gradients in float64, each with the magnitude that bounds the rounding errors of a kernel's result.

A kernel rounds probabilities and their gradients to 16 bits before it multiplies them, so an element's error is measured by the
sum of its terms' absolute values, not by the element, which may cancel.
"""

from typing import NamedTuple

import ml_dtypes
import numpy as np

# Relative error of one rounding to nearest.
UNIT = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
# float32 sums of up to a thousand terms with exp2 between them, relative to the sum of absolute values.
F32 = 2.0**-16


class Bounded(NamedTuple):
    value: np.ndarray
    magnitude: np.ndarray


def f64(*arrays) -> list[np.ndarray]:
    return [np.asarray(x).astype(np.float64) for x in arrays]


def draw(rng: np.random.Generator, *shape: int, dtype="bfloat16") -> np.ndarray:
    return rng.standard_normal(shape).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))


def visible(queries: int, keys: int, causal: bool, window=(-1, -1)) -> np.ndarray:
    """[Sq, Sk]: aligned to the bottom right."""
    position, j = np.arange(queries)[:, None] + keys - queries, np.arange(keys)
    mask = j <= position if causal else np.ones((queries, keys), bool)
    if window[0] >= 0:
        mask &= j >= position - window[0]
    if window[1] >= 0:
        mask &= j <= position + window[1]
    return mask


def probabilities(q, k, scale, mask) -> tuple[np.ndarray, np.ndarray]:
    """[Hq, Sq, Sk] and the log-sum-exp [Hq, Sq] of one sequence, k with a head per query head; masked rows are 0 and -inf."""
    s = np.where(mask, np.einsum("qhd,khd->hqk", q, k) * scale, -np.inf)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    p = np.exp(s - top)
    total = p.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (np.log(total) + top)[..., 0]
    return p / np.where(total == 0, 1, total), lse


def forward(q, k, v, scale, mask) -> tuple[Bounded, np.ndarray]:
    """One sequence [S, H, D]: out and lse."""
    q, k, v = f64(q, k, v)
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    p, lse = probabilities(q, k, scale, mask)
    return Bounded(np.einsum("hqk,khd->qhd", p, v), np.einsum("hqk,khd->qhd", p, np.abs(v))), lse


def backward(dout, q, k, v, out, scale, mask, out_magnitude=None) -> tuple[Bounded, Bounded, Bounded]:
    """dq, dk, dv of one sequence, with the given output in delta.

    out_magnitude: of an output that a kernel will compute, whose error (two units of it) enters through delta.
    """
    dout, q, k, v, out = f64(dout, q, k, v, out)
    heads, group = k.shape[1], q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    p, _ = probabilities(q, k, scale, mask)
    dp = np.einsum("qhd,khd->hqk", dout, v)
    delta = (dout * out).sum(-1).T[..., None]
    ds = p * (dp - delta) * scale
    # What float32 leaves of dp - delta: relative to its terms, not to the difference.
    terms = p * (np.einsum("qhd,khd->hqk", np.abs(dout), np.abs(v)) + np.abs(delta)) * scale
    rough = np.abs(ds) + terms * F32 / UNIT["bfloat16"]
    if out_magnitude is not None:
        rough += p * (np.abs(dout) * out_magnitude).sum(-1).T[..., None] * scale

    def grouped(x):
        return x.reshape(x.shape[0], heads, group, x.shape[2]).sum(2)

    dq = Bounded(np.einsum("hqk,khd->qhd", ds, k), np.einsum("hqk,khd->qhd", rough, np.abs(k)))
    dk = Bounded(grouped(np.einsum("hqk,qhd->khd", ds, q)), grouped(np.einsum("hqk,qhd->khd", rough, np.abs(q))))
    dv = Bounded(grouped(np.einsum("hqk,qhd->khd", p, dout)), grouped(np.einsum("hqk,qhd->khd", p, np.abs(dout))))
    return dq, dk, dv


def assert_within(got, expected: Bounded, units: float, unit: float, what: str, floor: float = 0.0) -> None:
    got = np.asarray(got).astype(np.float64)
    assert got.shape == expected.value.shape, what
    excess = np.abs(got - expected.value) - (units * unit + F32) * expected.magnitude - floor
    assert np.isfinite(got).all(), f"{what}: {(~np.isfinite(got)).sum()} values are not finite"
    worst = np.unravel_index(np.argmax(excess), excess.shape) if excess.size else ()
    assert (excess <= 0).all(), (
        f"{what}: {(excess > 0).sum()} of {excess.size} outside, worst at {worst}: got {got[worst]}, "
        f"expected {expected.value[worst]}, magnitude {expected.magnitude[worst]}"
    )


def stack(parts: list[Bounded]) -> Bounded:
    return Bounded(np.stack([p.value for p in parts]), np.stack([p.magnitude for p in parts]))


def scatter(shape, starts, parts: list[Bounded]) -> Bounded:
    """Parts of packed sequences at their rows; rows past the last one are exactly zero."""
    whole = Bounded(np.zeros(shape), np.zeros(shape))
    for begin, part in zip(starts, parts, strict=False):
        for target, rows in zip(whole, part, strict=True):
            target[begin : begin + len(rows)] = rows
    return whole
