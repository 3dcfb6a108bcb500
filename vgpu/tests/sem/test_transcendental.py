"""Transcendental functions against numpy in double precision.

Bound: the functions are evaluated in f64 to better than 2^-40 and rounded once, so half an ulp plus a sliver. The tests
allow 0.501 ulp of the correctly rounded result's binade; hardware documents 1 ulp.
"""

from __future__ import annotations

import numpy as np
import pytest
from edge_values import sample_f32, sample_f64

TAU = 2 * np.pi
FUNCTIONS = {
    "exp": np.exp2,
    "log": np.log2,
    "rcp": lambda x: 1 / x,
    "rsq": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
    "sin": lambda x: sin_turns(x),
    "cos": lambda x: cos_turns(x),
}


def sin_turns(x: np.ndarray) -> np.ndarray:
    """sin(2 pi x), folded exactly to a quarter turn so that the zeros are exact."""
    r = x - np.rint(x)
    return np.sin(TAU * np.where(np.abs(r) > 0.25, np.copysign(0.5, r) - r, r))


def cos_turns(x: np.ndarray) -> np.ndarray:
    return np.sin(TAU * (0.25 - np.abs(x - np.rint(x))))


def flush(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def ulps(got: np.ndarray, exact: np.ndarray, dtype: type) -> np.ndarray:
    nearest = exact.astype(dtype)
    return np.abs(got.astype(np.float64) - exact) / np.spacing(np.abs(nearest)).astype(np.float64)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f32(apply, name):
    ordinary = np.random.default_rng(8).uniform(-160, 160, 100_000).astype(np.float32)
    x = np.concatenate([sample_f32(200_000, seed=9).view(np.float32), ordinary])
    got = apply(f"{name}_f32", np.uint32, x.view(np.uint32)).view(np.float32)
    with np.errstate(all="ignore"):
        flushes = name not in ("sin", "cos")
        argument = (flush(x) if flushes else x).astype(np.float64)
        exact = FUNCTIONS[name](argument)
        if not flushes:
            exact = np.where(np.abs(x) > 256, 0.0 if name == "sin" else 1.0, exact)
            exact = np.where(np.isfinite(x), exact, np.nan)
        rounded = exact.astype(np.float32)
        want = flush(rounded) if flushes else rounded
    nan = np.isnan(want)
    assert (np.isnan(got) == nan).all()
    special = ~nan & (np.isinf(want) | (want == 0))
    assert (np.abs(got[special]) == np.abs(want[special])).all()
    ordinary = ~nan & ~special
    # A result that rounds up to the smallest normal number is not flushed, one just below is: leave that one ulp out.
    ordinary &= np.abs(exact) > 2.0**-126 * 1.0000002 if flushes else True
    assert ulps(got[ordinary], exact[ordinary], np.float32).max() <= 0.501


@pytest.mark.parametrize("name", FUNCTIONS)
def test_f16_every_code(apply, name):
    codes = np.arange(65536, dtype=np.uint16)
    x = codes.view(np.float16)
    got = apply(f"{name}_f16", np.uint16, codes).view(np.float16)
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[name](x.astype(np.float64))
        if name in ("sin", "cos"):
            exact = np.where(np.abs(x) > 256, 0.0 if name == "sin" else 1.0, exact)
            exact = np.where(np.isfinite(x), exact, np.nan)
        want = exact.astype(np.float16)
    nan = np.isnan(want)
    assert (np.isnan(got) == nan).all()
    special = ~nan & (np.isinf(want) | (want == 0))
    assert (np.abs(got[special]) == np.abs(want[special])).all()
    ordinary = ~nan & ~special
    assert ulps(got[ordinary], exact[ordinary], np.float16).max() <= 0.501


@pytest.mark.parametrize("name", ["rcp", "rsq", "sqrt"])
def test_f64_within_an_ulp(apply, name):
    bits = sample_f64(100_000, seed=10)
    x = bits.view(np.float64)
    got = apply(f"{name}_f64", np.uint64, bits).view(np.float64)
    with np.errstate(all="ignore"):
        want = FUNCTIONS[name](x)
    nan = np.isnan(want)
    assert (np.isnan(got) == nan).all()
    np.testing.assert_array_max_ulp(got[~nan], want[~nan], maxulp=1)


def test_zero_and_infinity_signs(apply):
    x = np.array([0.0, -0.0, np.inf, -np.inf], np.float32)
    for name, want in {
        "rcp": [np.inf, -np.inf, 0.0, -0.0],
        "rsq": [np.inf, -np.inf, 0.0, np.nan],
        "sqrt": [0.0, -0.0, np.inf, np.nan],
        "log": [-np.inf, -np.inf, np.inf, np.nan],
        "exp": [1.0, 1.0, np.inf, 0.0],
        "sin": [0.0, -0.0, np.nan, np.nan],
        "cos": [1.0, 1.0, np.nan, np.nan],
    }.items():
        got = apply(f"{name}_f32", np.uint32, x.view(np.uint32)).view(np.float32)
        np.testing.assert_array_equal(got, np.array(want, np.float32), err_msg=name)
        number = ~np.isnan(got)
        np.testing.assert_array_equal(np.signbit(got)[number], np.signbit(np.array(want))[number], err_msg=name)
