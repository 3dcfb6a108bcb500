"""Matrix instructions against numpy, through the lane layouts of matrix_layout.

Small integers make every product and sum exact, so layout errors show as wrong bits whatever the order of addition.
Random data is compared within k roundings of the running sum: k * 2^-24 * (|C| + sum |a||b|).
"""

from __future__ import annotations

import ctypes
import re
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from matrix_layout import LANES, Shape, operand, operand_8bit_scaled, pack, result_positions, unpack
from matrix_names import DENSE, SCALED_SIZES, SPARSE, WIDE_SPARSE


class Info(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("fn", ctypes.c_void_p),
        ("m", ctypes.c_uint16),
        ("n", ctypes.c_uint16),
        ("k", ctypes.c_uint16),
        ("blocks", ctypes.c_uint16),
        ("a_regs", ctypes.c_uint8),
        ("b_regs", ctypes.c_uint8),
        ("c_regs", ctypes.c_uint8),
        ("on_gfx942", ctypes.c_bool),
        ("on_gfx950", ctypes.c_bool),
        ("sparse", ctypes.c_bool),
    ]


class Type(NamedTuple):
    bits: int
    dtype: Any


def element_type(name: str, ocp: bool) -> Type:
    fp8 = ml_dtypes.float8_e4m3fn if ocp else ml_dtypes.float8_e4m3fnuz
    bf8 = ml_dtypes.float8_e5m2 if ocp else ml_dtypes.float8_e5m2fnuz
    return {
        "f32": Type(32, np.float32),
        "xf32": Type(32, np.float32),
        "f64": Type(64, np.float64),
        "f16": Type(16, np.float16),
        "bf16": Type(16, ml_dtypes.bfloat16),
        "i8": Type(8, np.int8),
        "fp8": Type(8, fp8),
        "bf8": Type(8, bf8),
    }[name]


UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def decode(codes: np.ndarray, kind: Type) -> np.ndarray:
    dtype = np.dtype(kind.dtype)
    return codes.astype(UNSIGNED[dtype.itemsize]).view(dtype).astype(np.float64)


def encode(values: np.ndarray, kind: Type) -> np.ndarray:
    dtype = np.dtype(kind.dtype)
    return values.astype(dtype).view(UNSIGNED[dtype.itemsize]).astype(np.uint64)


@pytest.fixture(scope="session")
def table(shim: ctypes.CDLL) -> dict[str, Info]:
    count = ctypes.c_int()
    shim.shim_all_mfma.restype = ctypes.POINTER(Info)
    rows = shim.shim_all_mfma(ctypes.byref(count))
    return {rows[i].name.decode(): rows[i] for i in range(count.value)}


def execute(shim, info: Info, a, b, c, controls=(), scales=(None, None), index=None) -> np.ndarray:
    """D, the same bits in vectors of either width."""
    results = []
    for wide in (False, True):
        shim.shim_wide(wide)
        results.append(execute_one(shim, info, a, b, c, controls, scales, index))
    np.testing.assert_array_equal(*results)
    return results[0]


def execute_one(shim, info: Info, a, b, c, controls, scales, index) -> np.ndarray:
    d = np.zeros((info.c_regs, LANES), np.uint32)
    pointers = [
        None if x is None else np.ascontiguousarray(x, np.uint32).ctypes.data_as(ctypes.c_void_p)
        for x in (d, a, b, c, *scales, index)
    ]
    pointers[0] = d.ctypes.data_as(ctypes.c_void_p)
    control = (ctypes.c_uint8 * 8)(*controls, *[0] * (8 - len(controls)))
    shim.shim_mfma(ctypes.byref(info), *pointers[:4], control, *pointers[4:])
    return d


def random_operand(rng, registers: int, kind: Type, small: bool) -> np.ndarray:
    count = registers * 32 // kind.bits
    if kind.dtype is np.int8:
        values = rng.integers(-128, 128, (count, LANES))
    else:
        values = rng.integers(-3, 4, (count, LANES)) if small else rng.normal(size=(count, LANES))
    return pack(encode(values.astype(np.float64), kind), kind.bits)


def parts(name: str) -> tuple[str, str, str]:
    """Accumulator, A and B type names."""
    match = re.match(r"v_s?mfma[c]?_(f32|i32|f64)_\d+x\d+x\d+_(?:\d+b_)?(\w+?)(?:_(\w+))?$", name)
    return match.group(1), match.group(2), match.group(3) or match.group(2)


def accumulator(c: np.ndarray, shape: Shape, kind: str) -> np.ndarray:
    element, lane = result_positions(shape, kind == "f64")
    bits = 64 if kind == "f64" else 32
    codes = unpack(c, bits)[element, lane]
    return (
        codes.astype(np.uint32).view(np.int32).astype(np.float64)
        if kind == "i32"
        else (codes.astype(np.uint32).view(np.float32).astype(np.float64) if kind == "f32" else codes.view(np.float64))
    )


def dense_case(shim, info: Info, name: str, small: bool, ocp: bool = False, controls=(0, 0, 0), clamp: bool = False):
    rng = np.random.default_rng(sum(name.encode()))
    shape = Shape(info.m, info.n, info.k, info.blocks)
    out, ta, tb = parts(name)
    kind_a, kind_b = element_type(ta, ocp), element_type(tb, ocp)
    a, b = random_operand(rng, info.a_regs, kind_a, small), random_operand(rng, info.b_regs, kind_b, small)
    kind_c = Type(32, np.int32) if out == "i32" else element_type(out, ocp)
    c = random_operand(rng, info.c_regs, kind_c, small)
    if out == "i32" and clamp:
        c = np.where(rng.integers(0, 2, c.shape), np.uint32(0x7FFFFFFF), np.uint32(0x80000000)).astype(np.uint32)
    got = accumulator(execute(shim, info, a, b, c, (*controls, ocp, clamp)), shape, out)
    values_a, values_b = decode(unpack(a, kind_a.bits), kind_a), decode(unpack(b, kind_b.bits), kind_b)
    if ta == "xf32":
        values_a, values_b = (decode(unpack(x & np.uint32(0xFFFFE000), 32), kind_a) for x in (a, b))
    lanes = np.arange(LANES)
    remap = {0: lanes, 1: lanes % 32, 2: lanes % 32 + 32, 3: (lanes + 16) % 64}
    if out != "f64":
        values_b = values_b[:, remap.get(controls[2], lanes % 16 + 16 * (controls[2] - 4))]
    left, right = operand(values_a, shape.m, shape.k, shape.blocks), operand(values_b, shape.n, shape.k, shape.blocks)
    group = 1 << controls[0]
    left = left[[block // group * group + controls[1] if group > 1 else block for block in range(shape.blocks)]]
    start = accumulator(c, shape, out)
    if out == "f64":
        left, right, start = (x * (-1 if controls[2] >> i & 1 else 1) for i, x in enumerate((left, right, start)))
    want = start + left @ right.transpose(0, 2, 1)
    bound = np.abs(start) + np.abs(left) @ np.abs(right).transpose(0, 2, 1)
    return got, want, bound


@pytest.mark.parametrize("name", DENSE)
def test_layout_with_exact_arithmetic(shim, table, name):
    got, want, _ = dense_case(shim, table[name], name, small=True)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", DENSE)
def test_random_values_within_the_roundings_of_the_sum(shim, table, name):
    got, want, bound = dense_case(shim, table[name], name, small=False, ocp=not table[name].on_gfx942)
    unit = 2.0**-53 if "f64" in name else 2.0**-24
    assert (np.abs(got - want) <= table[name].k * unit * bound).all()


@pytest.mark.parametrize("name", [n for n in DENSE if n.endswith(("fp8_fp8", "bf8_bf8", "fp8_bf8"))])
def test_ocp_8bit(shim, table, name):
    got, want, _ = dense_case(shim, table[name], name, small=True, ocp=True)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("blgp", range(8))
def test_b_lane_group_patterns(shim, table, blgp):
    for name in ("v_mfma_f32_16x16x16_f16", "v_mfma_f32_32x32x4_2b_bf16", "v_mfma_f32_4x4x1_16b_f32"):
        got, want, _ = dense_case(shim, table[name], name, small=True, controls=(0, 0, blgp))
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("name", "cbsz", "abid"),
    [
        ("v_mfma_f32_32x32x4_2b_f16", 1, 1),
        ("v_mfma_f32_16x16x4_4b_f16", 1, 1),
        ("v_mfma_f32_16x16x4_4b_f16", 2, 3),
        ("v_mfma_f32_4x4x4_16b_f16", 3, 5),
        ("v_mfma_i32_4x4x4_16b_i8", 4, 15),
    ],
)
def test_a_broadcast(shim, table, name, cbsz, abid):
    got, want, _ = dense_case(shim, table[name], name, small=True, controls=(cbsz, abid, 0))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("neg", range(8))
def test_f64_negations(shim, table, neg):
    for name in ("v_mfma_f64_16x16x4_f64", "v_mfma_f64_4x4x4_4b_f64"):
        got, want, _ = dense_case(shim, table[name], name, small=True, controls=(0, 0, neg))
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("clamp", [False, True])
def test_integer_overflow(shim, table, clamp):
    name = "v_mfma_i32_16x16x32_i8"
    rng = np.random.default_rng(3)
    info = table[name]
    a = random_operand(rng, info.a_regs, element_type("i8", False), False)
    c = np.where(rng.integers(0, 2, (4, LANES)), np.uint32(0x7FFFFFFF), np.uint32(0x80000000)).astype(np.uint32)
    got = accumulator(execute(shim, info, a, a, c, (0, 0, 0, 0, clamp)), Shape(16, 16, 32, 1), "i32")
    left = operand(decode(unpack(a, 8), element_type("i8", False)), 16, 32, 1)[0]
    exact = accumulator(c, Shape(16, 16, 32, 1), "i32")[0] + left @ left.T
    wrapped = ((exact + 2.0**31) % 2.0**32) - 2.0**31
    np.testing.assert_array_equal(got[0], np.clip(exact, -(2.0**31), 2.0**31 - 1) if clamp else wrapped)


def test_special_values(shim, table):
    """inf * 0 and inf - inf give the canonical NaN; denormal bf16 and f32 values survive."""
    info = table["v_mfma_f32_16x16x16_bf16"]
    a, b, c = np.zeros((2, LANES), np.uint32), np.zeros((2, LANES), np.uint32), np.zeros((4, LANES), np.uint32)
    a[0, 0], b[0, 1] = 0x7F80, 0x3F80  # A[0][0] = inf, everything else of B but B[0][1] zero
    d = execute(shim, info, a, b, c)
    row0 = d[0, :16]
    assert row0[1] == 0x7F800000
    assert (np.delete(row0, 1) == 0x7FC00000).all()
    a[0, 0], b[0, 1], c[0, 2] = 0x0001, 0x3F80, 0x00000005
    d = execute(shim, info, a, b, c)
    assert d[0, 1] == 0x00010000 and d[0, 2] == 5


@pytest.mark.parametrize("name", [*SPARSE, *WIDE_SPARSE])
@pytest.mark.parametrize(("cbsz", "abid"), [(0, 0), (0, 1), (1, 1)])
def test_sparse(shim, table, name, cbsz, abid):
    info = table[name]
    rng = np.random.default_rng(abid)
    out, ta, tb = parts(name)
    ocp = name in WIDE_SPARSE
    kind_a, kind_b = element_type(ta, ocp), element_type(tb, ocp)
    a, b = random_operand(rng, info.a_regs, kind_a, True), random_operand(rng, info.b_regs, kind_b, True)
    c = random_operand(rng, info.c_regs, Type(32, np.int32) if out == "i32" else element_type("f32", False), True)
    # Pairs of distinct positions in ascending order, as compilers produce them.
    pairs = np.array([x | y << 2 for x in range(4) for y in range(x + 1, 4)], np.uint64)
    index = pack(rng.choice(pairs, (8, LANES)), 4)
    per_lane = info.a_regs * 32 // kind_a.bits
    set_bits = 2 * per_lane
    chosen = 0 if cbsz else abid % (32 // set_bits)
    codes = unpack(index, 2)[chosen * per_lane : (chosen + 1) * per_lane].astype(int)
    compressed = decode(unpack(a, kind_a.bits), kind_a)
    left = np.zeros((info.m, info.k))
    for lane in range(LANES):
        for e in range(per_lane):
            k = (lane // info.m) * 2 * per_lane + 4 * (e // 2) + codes[e, lane]
            left[lane % info.m, k] += compressed[e, lane]
    right = operand(decode(unpack(b, kind_b.bits), kind_b), info.n, info.k, 1)[0]
    shape = Shape(info.m, info.n, info.k, 1)
    got = accumulator(execute(shim, info, a, b, c, (cbsz, abid, 0, ocp), index=index), shape, out)[0]
    np.testing.assert_array_equal(got, accumulator(c, shape, out)[0] + left @ right.T)


FORMATS = [
    Type(8, ml_dtypes.float8_e4m3fn),
    Type(8, ml_dtypes.float8_e5m2),
    Type(6, ml_dtypes.float6_e2m3fn),
    Type(6, ml_dtypes.float6_e3m2fn),
    Type(4, ml_dtypes.float4_e2m1fn),
]


@pytest.mark.parametrize("size", SCALED_SIZES)
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("format_a", "format_b"), [(0, 0), (0, 1), (2, 3), (4, 4), (0, 4), (3, 1)])
def test_f8f6f4(shim, table, size, scaled, format_a, format_b):
    info = table[f"v_mfma_{'scale_' if scaled else ''}f32_{size}_f8f6f4"]
    rng = np.random.default_rng(format_a * 5 + format_b)

    def operand_of(format_: int, edge: int) -> tuple[np.ndarray, np.ndarray]:
        kind = FORMATS[format_]
        codes = encode(rng.choice([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0], (32, LANES)), kind)
        values = decode(codes, kind)
        dense = operand_8bit_scaled(values, edge, info.k) if kind.bits == 8 else operand(values, edge, info.k, 1)
        return pack(codes, kind.bits), dense[0]

    (a, left), (b, right) = operand_of(format_a, info.m), operand_of(format_b, info.n)
    scales = rng.integers(120, 134, (2, 4, LANES)).astype(np.uint64)
    registers = [pack(s, 8)[0] for s in scales]
    byte_a, byte_b = (1, 3)
    if scaled:
        for matrix, scale, edge in ((left, scales[0][byte_a], info.m), (right, scales[1][byte_b], info.n)):
            for row in range(edge):
                for k in range(info.k):
                    matrix[row, k] *= 2.0 ** (int(scale[row + edge * (k // 32)]) - 127)
    c = random_operand(rng, info.c_regs, element_type("f32", False), True)
    shape = Shape(info.m, info.n, info.k, 1)
    got = accumulator(
        execute(shim, info, a, b, c, (format_a, 0, format_b, 1, 0, byte_a, byte_b), registers if scaled else (None, None)),
        shape,
        "f32",
    )[0]
    want = accumulator(c, shape, "f32")[0] + left @ right.T
    np.testing.assert_array_equal(got, want.astype(np.float32))  # sums of quarters: exact in f64, rounded once


@pytest.mark.parametrize("format_", range(5))
def test_f8f6f4_reads_every_code(shim, table, format_):
    """Sixteen codes at a time, each in a row of its own at k = 0, times one."""
    info, kind = table["v_mfma_f32_16x16x128_f8f6f4"], FORMATS[format_]
    b = np.zeros((32, LANES), np.uint64)
    b[0, 0] = encode(np.ones(1), FORMATS[0])[0]
    codes = np.arange(1 << kind.bits, dtype=np.uint64)
    for rows in codes.reshape(-1, 16):
        a = np.zeros((32, LANES), np.uint64)
        a[0, :16] = rows
        d = execute(shim, info, pack(a, kind.bits), pack(b, 8), np.zeros((info.c_regs, LANES), np.uint32), (format_, 0, 0, 1))
        got = accumulator(d, Shape(16, 16, 128, 1), "f32")[0][:, 0]
        np.testing.assert_array_equal(got, decode(rows, kind))
