"""f16 arithmetic, AMD's division sequence and trig_preop against exact references."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from edge_values import sample_f32, sample_f64


def f16_pairs(n: int, count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 65536, n, dtype=np.uint16) for _ in range(count)]


def same_f16(got: np.ndarray, want: np.ndarray) -> None:
    nan = np.isnan(want)
    assert (np.isnan(got.view(np.float16)) == nan).all()
    np.testing.assert_array_equal(got[~nan], want.view(np.uint16)[~nan])


@pytest.mark.parametrize("name", ["add", "mul"])
def test_f16_sum_and_product(apply, name):
    """numpy computes f16 in f32 and rounds once more, which is exact for these two."""
    a, b = f16_pairs(300_000, 2, 11)
    with np.errstate(all="ignore"):
        x, y = a.view(np.float16), b.view(np.float16)
        want = x + y if name == "add" else x * y
    same_f16(apply(f"{name}_f16", np.uint16, a, b), want)


def test_f16_fma_rounds_once(apply):
    """longdouble (64-bit mantissa) holds x*y and almost every sum exactly; the rest is redone with fractions."""
    a, b, c = f16_pairs(300_000, 3, 12)
    # Ties in the product with a far smaller addend: what double rounding gets wrong.
    tie_a = np.full(2048, 0x3C01, np.uint16)
    tie_b = (0x3C00 + np.arange(2048)).astype(np.uint16)
    tie_c = np.where(np.arange(2048) % 2, 0x0001, 0x8001).astype(np.uint16)
    a, b, c = np.concatenate([a, tie_a]), np.concatenate([b, tie_b]), np.concatenate([c, tie_c])
    got = apply("fma_f16", np.uint16, a, b, c)
    with np.errstate(all="ignore"):
        x, y, z = (v.view(np.float16).astype(np.longdouble) for v in (a, b, c))
        want = (x * y + z).astype(np.float16)
    different = np.flatnonzero(~(np.isnan(want) & np.isnan(got.view(np.float16))) & (got != want.view(np.uint16)))
    for i in different:
        exact = Fraction(float(x[i])) * Fraction(float(y[i])) + Fraction(float(z[i]))
        candidates = [got[i], want.view(np.uint16)[i]]
        errors = [abs(Fraction(float(np.uint16(k).view(np.float16))) - exact) for k in candidates]
        assert errors[0] < errors[1], f"fma({a[i]:#x}, {b[i]:#x}, {c[i]:#x}) = {got[i]:#x}"


def division_cases(sample, bits) -> tuple[np.ndarray, np.ndarray]:
    a, b = sample(300_000, 13), sample(300_000, 14)
    rng = np.random.default_rng(15)
    near = rng.integers(0, 1 << 10, 300_000).astype(bits)
    return np.concatenate([a, a]), np.concatenate([rng.permutation(b), (a ^ near)])


def test_f32_division_is_correctly_rounded(apply):
    a, b = division_cases(sample_f32, np.uint32)
    with np.errstate(all="ignore"):
        want = a.view(np.float32) / b.view(np.float32)
    got = apply("divide_f32", np.uint32, a, b).view(np.float32)
    nan = np.isnan(want)
    assert (np.isnan(got) == nan).all()
    wrong = np.flatnonzero((got.view(np.uint32) != want.view(np.uint32)) & ~nan)
    # The sequence rounds twice when the quotient is denormal: one step off is what hardware gives there too.
    tiny = np.abs(want[wrong]) < 2.0**-125
    assert tiny.all(), f"{a[wrong][~tiny][:3]} / {b[wrong][~tiny][:3]}"
    assert (np.abs(got[wrong].view(np.int32) - want[wrong].view(np.int32)) <= 1).all()


def test_f64_division_is_correctly_rounded(apply):
    a, b = division_cases(sample_f64, np.uint64)
    with np.errstate(all="ignore"):
        want = a.view(np.float64) / b.view(np.float64)
    got = apply("divide_f64", np.uint64, a, b).view(np.float64)
    nan = np.isnan(want)
    assert (np.isnan(got) == nan).all()
    wrong = np.flatnonzero((got.view(np.uint64) != want.view(np.uint64)) & ~nan)
    tiny = np.abs(want[wrong]) < 2.0**-1021
    assert tiny.all(), f"{a[wrong][~tiny][:3]} / {b[wrong][~tiny][:3]}"
    assert (np.abs(got[wrong].view(np.int64) - want[wrong].view(np.int64)) <= 1).all()


def test_trig_preop_segments_add_up_to_two_over_pi(apply):
    """Below the shift threshold, segments 0, 1, 2, ... are consecutive 53-bit pieces of 2/pi."""
    one = np.full(20, np.float64(1.0).view(np.uint64), np.uint64)
    pieces = apply("trig_preop_f64", np.uint64, one, np.arange(20, dtype=np.uint32)).view(np.float64)
    total = sum((Fraction(float(p)) for p in pieces), Fraction(0))
    # 2/pi = 1/asin(1): Machin's formula in integers, to 1200 bits
    unity = 1 << 1300

    def arctan_inverse(n: int) -> int:
        term = unity // n
        result, k, sign = term, 3, -1
        while term:
            term //= n * n
            result, k, sign = result + sign * (term // k), k + 2, -sign
        return result

    pi = Fraction(4 * (4 * arctan_inverse(5) - arctan_inverse(239)), unity)
    assert 0 <= 2 / pi - total < Fraction(1, 1 << (53 * 20 - 1))
