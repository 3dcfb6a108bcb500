"""NaN and infinity among the operands of gfx942's matrix instructions: which results they reach, and that they touch no other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import silicon
from matrix_layout import LANES, Shape, operand, pack
from test_mfma import Info, element_type, encode, execute, parts, table  # noqa: F401  (table: a fixture)
from test_silicon import CONTROLS, RULED, RULED_SPARSE, accumulators, codes, result_of, sparse_product, values_of

NOT_FINITE = np.array([np.nan, np.inf, -np.inf])


def scattered(rng, code: np.ndarray, kind: str, share: float) -> np.ndarray:
    """With a share of the elements not finite, as far as the format has such."""
    bad = rng.choice(NOT_FINITE, code.shape)
    words = bad.astype(np.float32).view(np.uint32).astype(np.uint64) if kind == "xf32" else encode(bad, element_type(kind, False))
    return np.where(rng.random(code.shape) < share, words, code)


def exactly(a: np.ndarray, b: np.ndarray, c: np.ndarray, *types: str) -> np.ndarray:
    """c + a @ b in float64: finite only where neither NaN nor infinity takes part."""
    with np.errstate(invalid="ignore"):
        return c.astype(np.float64) + np.einsum("...mk,...kn->...mn", a, b)


def check(shim, info: Info, name: str, share: float, seed: int) -> None:
    _, ta, tb = parts(name)
    shape, rng = Shape(info.m, info.n, info.k, info.blocks), np.random.default_rng(seed)
    bits = 32 if ta == "xf32" else element_type(ta, False).bits
    style, start = ("normal", "wide")[seed % 2], ("normal", "huge")[seed // 2 % 2]
    a, b = (scattered(rng, codes(rng, count * 32 // bits, kind, style), kind, share) for count, kind in
            ((info.a_regs, ta), (info.b_regs, tb)))  # fmt: skip
    c = accumulators(rng, info.c_regs, start).view(np.float32)
    c = np.where(rng.random(c.shape) < share, rng.choice(NOT_FINITE, c.shape).astype(np.float32), c).view(np.uint32)
    index = rng.integers(0, 2**32, LANES, np.uint32) if info.sparse else None
    got = result_of(execute(shim, info, pack(a, bits), pack(b, bits), c, CONTROLS, index=index), shape)
    left, right = values_of(a, ta), operand(values_of(b, tb), shape.n, shape.k, shape.blocks).transpose(0, 2, 1)
    start_of = result_of(c, shape)

    def product(left: np.ndarray, right: np.ndarray, c: np.ndarray, multiply: Callable[..., np.ndarray]) -> np.ndarray:
        if info.sparse:
            return sparse_product(left, right[0], index, c[0], ta, tb, multiply)
        return multiply(operand(left, shape.m, shape.k, shape.blocks), right, c, ta, tb)

    exact = product(left, right, start_of, exactly)
    ruled = product(*(np.where(np.isfinite(x), x, x.dtype.type(0)) for x in (left, right, start_of)), silicon.multiply)
    want = np.where(np.isfinite(exact), ruled, exact.astype(np.float32))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg=name)
    kept = ~np.isnan(want)
    np.testing.assert_array_equal(got.view(np.uint32)[kept], want.astype(np.float32).view(np.uint32)[kept], err_msg=name)


@pytest.mark.parametrize("name", RULED + RULED_SPARSE)
@pytest.mark.parametrize("share", [0.004, 0.05])
def test_results_that_meet_them_and_those_that_do_not(shim, table, name, share):  # noqa: F811
    for seed in range(8):
        check(shim, table[name], name, share, seed)
