"""The published rule of gfx942's matrix unit (arXiv 2511.10909) on integers: what test_silicon.py holds the interpreter against.

Nothing here is shared with src/sem/matrix, which computes with scaled floats; both follow the publication's description.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ZERO = -126  # the exponent that a zero counts as


class Format(NamedTuple):
    fraction: int  # bits after the point
    least: int  # exponent of denormals
    group: int  # products summed at once
    halves: int


FORMATS = {
    "xf32": Format(10, -126, 4, 1),
    "f16": Format(10, -14, 8, 1),
    "bf16": Format(7, -126, 8, 1),
    "fp8": Format(3, -7, 16, 2),
    "bf8": Format(2, -15, 16, 2),
}


def parts(values: np.ndarray, form: Format) -> tuple[np.ndarray, np.ndarray]:
    """Integers s and e with values = s * 2^(e - fraction), e as the unit reads it."""
    _, e = np.frexp(values)
    e = np.maximum(e - 1, form.least)
    s = np.ldexp(values, form.fraction - e)
    assert np.array_equal(s, np.rint(s))
    return s.astype(np.int64), np.where(values == 0, ZERO, e)


def shifted(x: np.ndarray, left: np.ndarray | int) -> np.ndarray:
    """floor(x * 2^left)."""
    left = np.broadcast_to(left, x.shape)
    return np.where(left >= 0, x << np.clip(left, 0, 40), x >> np.clip(-left, 0, 62))


def truncated(x: np.ndarray, left: np.ndarray | int) -> np.ndarray:
    return np.sign(x) * shifted(np.abs(x), left)


def half(products: np.ndarray, exponents: np.ndarray, fraction: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the last axis in units of 2^(top - 24), and top."""
    top = exponents.max(-1)
    return truncated(products, 24 - fraction + exponents - top[..., None]).sum(-1), top


def group(a, b, c: np.ndarray, form_a: Format, form_b: Format) -> np.ndarray:
    """c + a . b over the last axis, one group of it; a and b as `parts` gives them, c float32."""
    products, exponents, fraction = a[0] * b[0], a[1] + b[1], form_a.fraction + form_b.fraction
    sums = [half(products[..., h :: form_a.halves], exponents[..., h :: form_a.halves], fraction) for h in range(form_a.halves)]
    e = np.maximum.reduce([top for _, top in sums])
    total = sum((shifted(s, top - e) for s, top in sums), np.zeros(c.shape, np.int64))
    sc, ec = parts(c.astype(np.float64), Format(23, -126, 0, 0))
    top = np.maximum(e, ec)
    kept = shifted(sc, 24 - 23 + ec - top)
    if form_a.halves == 2:
        kept = np.where(ec < top - 25, 0, kept)
    with np.errstate(over="ignore"):
        return np.ldexp((shifted(total, 7 + e - top) + (kept << 7)).astype(np.float64), top - 31).astype(np.float32)


def multiply(a: np.ndarray, b: np.ndarray, c: np.ndarray, kind_a: str, kind_b: str) -> np.ndarray:
    """c [..., M, N] + a [..., M, K] @ b [..., K, N], finite operands whose products stay below 2^128."""
    form_a, form_b = FORMATS[kind_a], FORMATS[kind_b]
    (sa, ea), (sb, eb) = parts(a[..., :, None, :], form_a), parts(np.swapaxes(b, -1, -2)[..., None, :, :], form_b)
    c = c.astype(np.float32)
    for k in range(0, a.shape[-1], form_a.group):
        at = slice(k, k + form_a.group)
        c = group((sa[..., at], ea[..., at]), (sb[..., at], eb[..., at]), c, form_a, form_b)
    return c
