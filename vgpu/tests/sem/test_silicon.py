"""Matrix instructions of gfx942 in the hardware's arithmetic, bit for bit against the rule restated on integers (silicon.py)."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import silicon
from matrix_layout import LANES, Shape, operand, pack, result_positions, unpack
from matrix_names import DENSE, SPARSE
from test_mfma import Info, decode, element_type, encode, execute, parts, table  # noqa: F401  (table: a fixture)

CONTROLS = (0, 0, 0, 0, 0, 0, 0, 1)  # the last: as the silicon does it


def ruled(name: str) -> bool:
    return parts(name)[0] == "f32" and parts(name)[1] in silicon.FORMATS


RULED = [n for n in DENSE if ruled(n) and not re.search(r"16x16x32_b?f16|32x32x16_b?f16", n)]
RULED_SPARSE = [n for n in SPARSE if ruled(n)]


def codes(rng, count: int, kind: str, style: str) -> np.ndarray:
    """Registers' worth of finite numbers, [count, LANES]."""
    form, kind_of = silicon.FORMATS[kind], element_type(kind, False)
    shape = (count, LANES)
    if style == "normal":
        values = rng.normal(size=shape)
    elif style == "wide":  # every exponent that keeps products, and sums of them, finite in float32
        values = rng.normal(size=shape) * 2.0 ** rng.integers(max(form.least, -100) - 4, 4 if kind[1] in "p8" else 12, shape)
    elif style == "denormal":
        values = rng.integers(-7, 8, shape) * 2.0 ** (form.least - form.fraction)
        values = np.where(rng.random(shape) < 0.3, rng.normal(size=shape), values)
    elif style == "tiny":  # far from any other: the small end of the format, and zeros
        values = (
            rng.normal(size=shape)
            * 2.0 ** rng.integers(form.least, form.least + (30 if form.least < -100 else 8), shape)
            * (rng.random(shape) < 0.7)
        )
    else:  # few magnitudes: sums cancel
        values = rng.choice([0.0, 1.0, -1.0, 1.5, -1.5, 2.0**-9, -(2.0**-9), 3.0, -3.0], shape)
    if kind == "xf32":  # the unit drops the low bits of a float32
        return values.astype(np.float32).view(np.uint32).astype(np.uint64) | 0x1234 & rng.integers(0, 0x2000, shape).astype(
            np.uint64
        )
    return encode(values, kind_of)


def values_of(code: np.ndarray, kind: str) -> np.ndarray:
    code = code & ~np.uint64(0x1FFF) if kind == "xf32" else code
    return decode(code, element_type(kind, False))


def accumulators(rng, count: int, style: str) -> np.ndarray:
    """float32 bit patterns."""
    shape = (count, LANES)
    scale = {"normal": 1.0, "zero": 0.0, "large": 2.0**24, "small": 2.0**-26, "huge": 2.0**100, "denormal": 2.0**-135}[style]
    return (rng.normal(size=shape) * scale).astype(np.float32).view(np.uint32)


def result_of(d: np.ndarray, shape: Shape) -> np.ndarray:
    element, lane = result_positions(shape, False)
    return unpack(d, 32)[element, lane].astype(np.uint32).view(np.float32)


STYLES = ("normal", "wide", "denormal", "tiny", "cancelling")
STARTS = ("normal", "zero", "large", "small", "huge", "denormal")


def check(shim, info: Info, name: str, seed: int, times: int) -> None:
    _, ta, tb = parts(name)
    shape = Shape(info.m, info.n, info.k, info.blocks)
    rng = np.random.default_rng(seed)
    bits = 32 if ta == "xf32" else element_type(ta, False).bits
    for i in range(times):
        style, start = STYLES[i % len(STYLES)], STARTS[i // len(STYLES) % len(STARTS)]
        (a, b) = (codes(rng, count * 32 // bits, kind, style) for count, kind in ((info.a_regs, ta), (info.b_regs, tb)))
        index = rng.integers(0, 2**32, LANES, np.uint32) if info.sparse else None
        c = accumulators(rng, info.c_regs, start)
        if style == "cancelling" and start == "normal":  # C undoes the sum but for its last bits
            zero = execute(shim, info, pack(a, bits), pack(b, bits), np.zeros_like(c), CONTROLS, index=index)
            c = zero ^ np.uint32(0x80000000) ^ rng.integers(0, 4, c.shape).astype(np.uint32)
        got = result_of(execute(shim, info, pack(a, bits), pack(b, bits), c, CONTROLS, index=index), shape)
        right = operand(values_of(b, tb), shape.n, shape.k, shape.blocks).transpose(0, 2, 1)
        if info.sparse:
            want = sparse_product(values_of(a, ta), right[0], index, result_of(c, shape)[0], ta, tb)
        else:
            want = silicon.multiply(operand(values_of(a, ta), shape.m, shape.k, shape.blocks), right, result_of(c, shape), ta, tb)
        np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32), err_msg=f"{name} {style} {start}")


def sparse_product(stored: np.ndarray, right: np.ndarray, index: np.ndarray, c: np.ndarray, ta: str, tb: str,
                   multiply: Callable[..., np.ndarray] = silicon.multiply) -> np.ndarray:  # fmt: skip
    """The dense rule, or another, on the stored elements and the rows of B that the index's first set of two-bit numbers names."""
    m, k, per_lane = len(c), len(right), len(stored)
    positions = unpack(index[None, :], 2)[:per_lane].astype(int)
    left, named = (operand(x, m, k // 2, 1)[0] for x in (stored, positions))
    rows = right[4 * (np.arange(k // 2) // 2) + named]  # of each row of A its own [k/2, n]
    return multiply(left[:, None], rows, c[:, None], ta, tb).transpose(1, 0, 2)


@pytest.mark.parametrize("name", RULED)
def test_dense(shim, table, name):  # noqa: F811
    check(shim, table[name], name, seed=0, times=2 * len(STYLES) * len(STARTS))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", RULED + RULED_SPARSE)
def test_a_million_results_of_each(shim, table, name):  # noqa: F811
    info = table[name]
    check(shim, info, name, seed=1, times=-(-(10**6) // (info.m * info.n * info.blocks)))


def one(shim, info: Info, name: str, a: dict, b: dict, c: np.float32) -> np.float32:
    """D[0][0] of an instruction whose row 0 of A is `a`, and column 0 of B is `b`, by k; zero elsewhere."""
    _, ta, tb = parts(name)
    bits = 32 if ta == "xf32" else element_type(ta, False).bits
    registers = []
    for given, kind, edge, count in ((a, ta, info.m, info.a_regs), (b, tb, info.n, info.b_regs)):
        kept = np.zeros((count * 32 // bits, LANES), np.uint64)
        per_lane = edge * info.k * info.blocks // LANES
        for k, value in given.items():
            kept[k % per_lane, edge * info.blocks * (k // per_lane)] = encode(np.float64([value]), element_type(kind, False))[0]
        registers.append(pack(kept, bits))
    start = np.full((info.c_regs, LANES), c, np.float32).view(np.uint32)
    return execute(shim, info, *registers, start, CONTROLS)[0, :1].view(np.float32)[0]


BF16 = "v_mfma_f32_16x16x16_bf16"


def test_by_hand(shim, table):  # noqa: F811
    """What tells the rule from fused multiply-adds and from exact sums, case by case."""
    info = table[BF16]
    tiny = 2.0**-25
    assert one(shim, info, BF16, {0: 1.0, 1: tiny}, {0: 1.0, 1: 1.0}, np.float32(0)) == 1.0  # below 24 bits of the largest: gone
    assert one(shim, info, BF16, {0: 1.0, 1: -tiny}, {0: 1.0, 1: 1.0}, np.float32(0)) == 1.0  # towards zero, either way
    # C is floored to 24 bits of the products' exponent: a little below zero is a whole step below
    assert one(shim, info, BF16, {0: 1.0}, {0: 1.0}, np.float32(-(2.0**-60))) == np.float32(1 - 2.0**-24)
    assert one(shim, info, BF16, {0: 1.0}, {0: 1.0}, np.float32(2.0**-60)) == 1.0
    # and the products to 31 bits of C's
    assert one(shim, info, BF16, {0: -(2.0**-40)}, {0: 1.0}, np.float32(1)) == np.float32(1)
    # k 0 to 7 are summed before 8 to 15: 2^24 takes in 1 + 1 at once, and 1, then 1, not at all
    assert one(shim, info, BF16, {0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}, np.float32(2.0**24)) == 2.0**24 + 2
    assert one(shim, info, BF16, {0: 1.0, 8: 1.0}, {0: 1.0, 8: 1.0}, np.float32(2.0**24)) == 2.0**24
    name = "v_mfma_f32_16x16x32_fp8_fp8"  # C more than 25 below the products is dropped, not floored
    assert one(shim, table[name], name, {0: 1.0}, {0: 1.0}, np.float32(-(2.0**-60))) == 1.0
    assert one(shim, table[name], name, {0: 1.0}, {0: 1.0}, np.float32(-(2.0**-25))) == np.float32(1 - 2.0**-24)


@pytest.mark.parametrize("name", RULED)
def test_the_sign_of_zero(shim, table, name):  # noqa: F811
    assert not np.signbit(one(shim, table[name], name, {0: -1.0}, {0: 0.0}, np.float32(-0.0)))


@pytest.mark.parametrize("name", [n for n in RULED if n.endswith(("_bf16", "xf32"))])
def test_overflow(shim, table, name):  # noqa: F811
    """A product of 2^128 or more is infinite, and a sum that rounds there."""
    info, huge = table[name], 2.0**100
    assert one(shim, info, name, {0: huge}, {0: huge}, np.float32(0)) == np.inf
    assert one(shim, info, name, {0: huge}, {0: -huge}, np.float32(1)) == -np.inf
    assert np.isnan(one(shim, info, name, {0: huge, 1: huge}, {0: huge, 1: -huge}, np.float32(0)))
    assert one(shim, info, name, {0: 2.0**127}, {0: 1.0}, np.float32(2.0**127)) == np.inf
    assert one(shim, info, name, {0: 2.0**127}, {0: 1.0}, np.float32(-(2.0**127))) == 0
    assert one(shim, info, name, {0: 2.0**-70}, {0: 2.0**-70}, np.float32(0)) == np.float32(2.0**-140)


@pytest.mark.parametrize("name", [n for n in RULED if n.endswith(("_bf16", "_f16"))])
def test_what_is_not_finite(shim, table, name):  # noqa: F811
    """By the ISA document, not by the publication, which leaves it out."""
    info, zero = table[name], np.float32(0)
    assert one(shim, info, name, {0: np.inf}, {0: 2.0}, zero) == np.inf
    assert one(shim, info, name, {1: 1.0}, {1: -np.inf}, zero) == -np.inf
    assert one(shim, info, name, {0: 1.0}, {0: 1.0}, np.float32(-np.inf)) == -np.inf
    for a, b, c in (({0: np.inf}, {0: 0.0}, 0), ({0: np.inf}, {0: 1.0}, -np.inf), ({0: np.nan}, {0: 1.0}, 0), ({}, {}, np.nan)):
        got = one(shim, info, name, a, b, np.float32(c))
        assert got.view(np.uint32) == 0x7FC00000


@pytest.mark.parametrize("name", RULED_SPARSE)
def test_sparse(shim, table, name):  # noqa: F811
    """Stored products form the dense rule's groups, in their order (ours: it is not published)."""
    check(shim, table[name], name, seed=7, times=len(STYLES) * 2)


@pytest.mark.parametrize("name", [n for n in RULED if "4x4x4_16b" in n])
@pytest.mark.parametrize(("cbsz", "abid"), [(1, 1), (2, 3), (4, 9)])
def test_blocks_that_read_one_block_of_a(shim, table, name, cbsz, abid):  # noqa: F811
    """As if every block of the 2^cbsz had the rows of A of the one that abid names."""
    info, rng = table[name], np.random.default_rng(cbsz)
    kind = element_type(parts(name)[1], False)
    a, b = (pack(encode(rng.normal(size=(4, LANES)), kind), 16) for _ in range(2))
    c = accumulators(rng, info.c_regs, "normal")
    block, row = np.divmod(np.arange(LANES), 4)
    named = 4 * ((block & ~(2**cbsz - 1)) + (abid & (2**cbsz - 1))) + row
    want = execute(shim, info, a[:, named], b, c, CONTROLS)
    np.testing.assert_array_equal(execute(shim, info, a, b, c, (cbsz, abid, *CONTROLS[2:])), want)
