"""Opcodes whose published pseudo-code is silent or wrong about the arithmetic: 8-bit conversions, dot products, division."""

from __future__ import annotations

import assembler
import ml_dtypes
import numpy as np
import pytest
from kernels import HEADER, kernel
from machine import Machine
from pcode.arithmetic import fma
from pcode.values import make
from valu_check import launch
from vectors import fill

EDGES_PER_GROUP, GROUPS = 64, 8

# LLVM's division of f32 in the kernel's default mode (denormals kept): v10 / v12.
DIVIDE_F32 = """
  v_div_scale_f32 v20, s[10:11], v12, v12, v10
  v_div_scale_f32 v21, vcc, v10, v12, v10
  v_rcp_f32 v22, v20
  v_fma_f32 v23, -v20, v22, 1.0
  v_fma_f32 v22, v23, v22, v22
  v_mul_f32 v23, v21, v22
  v_fma_f32 v24, -v20, v23, v21
  v_fma_f32 v23, v24, v22, v23
  v_fma_f32 v20, -v20, v23, v21
  v_div_fmas_f32 v20, v20, v22, v23
  v_div_fixup_f32 v18, v20, v12, v10
"""
DIVIDE_F64 = """
  v_div_scale_f64 v[20:21], s[10:11], v[12:13], v[12:13], v[10:11]
  v_rcp_f64 v[22:23], v[20:21]
  v_fma_f64 v[24:25], -v[20:21], v[22:23], 1.0
  v_fma_f64 v[22:23], v[22:23], v[24:25], v[22:23]
  v_fma_f64 v[24:25], -v[20:21], v[22:23], 1.0
  v_fma_f64 v[22:23], v[22:23], v[24:25], v[22:23]
  v_div_scale_f64 v[24:25], vcc, v[10:11], v[12:13], v[10:11]
  v_mul_f64 v[26:27], v[24:25], v[22:23]
  v_fma_f64 v[20:21], -v[20:21], v[26:27], v[24:25]
  v_div_fmas_f64 v[20:21], v[20:21], v[22:23], v[26:27]
  v_div_fixup_f64 v[18:19], v[20:21], v[12:13], v[10:11]
"""
BODIES = {
    "divide_f32": DIVIDE_F32,
    "divide_f64": DIVIDE_F64,
    **{f"cvt_f32_{t}_{i}": f"  v_cvt_f32_{t}_sdwa v18, v10 src0_sel:BYTE_{i}" for t in ("fp8", "bf8") for i in range(4)},
    **{f"cvt_f32_{t}": f"  v_cvt_f32_{t} v18, v10" for t in ("fp8", "bf8")},
    **{f"cvt_pk_f32_{t}": f"  v_cvt_pk_f32_{t} v[18:19], v10" for t in ("fp8", "bf8")},
    **{f"cvt_pk_f32_{t}_1": f"  v_cvt_pk_f32_{t}_sdwa v[18:19], v10 src0_sel:WORD_1" for t in ("fp8", "bf8")},
    **{f"cvt_pk_{t}_f32": f"  v_cvt_pk_{t}_f32 v18, v10, v12" for t in ("fp8", "bf8")},
    **{f"cvt_pk_{t}_f32_1": f"  v_cvt_pk_{t}_f32 v18, v10, v12 op_sel:[0,0,1]" for t in ("fp8", "bf8")},
    **{
        f"cvt_sr_{t}_f32_{i}": f"  v_cvt_sr_{t}_f32 v18, v10, v12 op_sel:[0,0,{i & 1},{i >> 1}]"
        for t in ("fp8", "bf8")
        for i in range(4)
    },
    "dot2_f32_f16": "  v_dot2_f32_f16 v18, v10, v12, v14",
    "dot2c_f32_f16": "  v_dot2c_f32_f16 v18, v10, v12",
    "fma_mix": "  v_fma_mix_f32 v18, v10, |v12|, -v14 op_sel:[1,0,0] op_sel_hi:[1,1,0]",
    "fma_mixlo": "  v_fma_mixlo_f16 v18, v10, v12, v14 op_sel_hi:[1,0,1]",
    "fma_mixhi": "  v_fma_mixhi_f16 v18, v10, v12, v14 op_sel:[0,1,1] op_sel_hi:[0,1,1] clamp",
    "pk_fma_sel": "  v_pk_fma_f32 v[18:19], v[10:11], v[12:13], v[14:15] op_sel:[1,0,1] op_sel_hi:[0,0,1] "
    "neg_lo:[1,0,0] neg_hi:[0,0,1]",
    "pk_mul_f16_sel": "  v_pk_mul_f16 v18, v10, v12 op_sel:[1,0] op_sel_hi:[0,0] neg_lo:[0,1] neg_hi:[1,0]",
    "accvgpr": "  v_accvgpr_write_b32 a3, v10\n  v_accvgpr_mov_b32 a5, a3\n  v_accvgpr_read_b32 v18, a5",
    "pkrtz": "  v_cvt_pkrtz_f16_f32 v18, v10, v12",
    "div_fixup_legacy": "  v_div_fixup_legacy_f16 v18, v10, v12, v14",
    "wrap": "  ds_write_b32 v0, v10\n  ds_wrap_rtn_b32 v18, v0, v12, v14\n  ds_read_b32 v19, v0\n  s_waitcnt lgkmcnt(0)",
    "pk_mov": "  v_pk_mov_b32 v[18:19], v[10:11], v[12:13] op_sel:[1,0]",
    **{
        f"add_clamp_{n}": f"  v_{n} v18, v10, v12 clamp"
        for n in ("add_u32", "sub_u32", "add_i32", "sub_i32", "add_u16", "sub_u16", "add_i16", "sub_i16")
    },
}


def gfx950_bodies() -> dict[str, str]:
    return {
        "dot2_f32_bf16": "  v_dot2_f32_bf16 v18, v10, v12, v14",
        "dot2c_f32_bf16": "  v_dot2c_f32_bf16 v18, v10, v12",
        **{
            f"cvt_sr_{t}_f32_{i}": f"  v_cvt_sr_{t}_f32 v18, v10, v12{half}"
            for t in ("f16", "bf16")
            for i, half in enumerate(("", " op_sel:[0,0,1]"))
        },
    }


@pytest.fixture(scope="module")
def run(machines):
    return runner(machines("gfx942"), BODIES)


@pytest.fixture(scope="module")
def run950(machines):
    return runner(machines("gfx950"), gfx950_bodies())


def runner(machine: Machine, bodies: dict[str, str]):
    texts = {f"sp_{n}": kernel(f"sp_{n}", body, 10, ["v18", "v19"], lds=256) for n, body in bodies.items()}
    image, rejected = assembler.assemble_valid(texts, machine.arch, HEADER)
    assert not rejected, rejected
    module = machine.load(image)

    def go(name: str, kinds: tuple[str, str, str], dwords: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """([dword][lane] inputs, [dword][lane] outputs) with sources of the given types at dwords 0, 2, 4."""
        rng = np.random.default_rng(sum(name.encode()))
        data = rng.integers(0, 1 << 32, (10, GROUPS * 64), dtype=np.uint32)
        for i, kind in enumerate(kinds):
            data[2 * i : 2 * i + dwords] = fill(rng, kind, dwords, GROUPS * 64)
        grouped = data.reshape(10, GROUPS, 64).transpose(1, 0, 2)
        out = launch(machine, module, f"sp_{name}", np.ascontiguousarray(grouped), 2)
        return data, out.transpose(1, 0, 2).reshape(2, -1)

    return go


def widen(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):  # signalling NaN
        return x.astype(np.float64)


def same(got: np.ndarray, want: np.ndarray, dtype: type = np.float32) -> None:
    with np.errstate(all="ignore"):  # signalling NaN
        got, want = got.view(dtype), want.astype(dtype)
    nan = np.isnan(want)
    assert (np.isnan(got) == nan).all()
    unsigned = {2: np.uint16, 4: np.uint32, 8: np.uint64}[want.itemsize]
    np.testing.assert_array_equal(got.view(unsigned)[~nan], want.view(unsigned)[~nan])


def exact_fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """f32 fma in exact arithmetic, rounded once."""
    values = (fma(*(make("f", 32, int(x)) for x in lane)).bits for lane in zip(a, b, c, strict=True))
    return np.fromiter(values, np.uint32).view(np.float32)


FORMATS = {"fp8": ml_dtypes.float8_e4m3fnuz, "bf8": ml_dtypes.float8_e5m2fnuz}


def bytes_as(x: np.ndarray, byte: int, name: str) -> np.ndarray:
    return (x >> (8 * byte)).astype(np.uint8).view(FORMATS[name]).astype(np.float32)


def to_bytes(x: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        code = x.view(np.float32).astype(FORMATS[name]).view(np.uint8).astype(np.uint32)
    return np.where(np.isfinite(x.view(np.float32)), code, np.uint32(0x80))


@pytest.mark.parametrize("name", FORMATS)
def test_8bit_to_f32(run, name):
    for byte in range(4):
        data, out = run(f"cvt_f32_{name}_{byte}", ("int", "int", "int"))
        same(out[0], bytes_as(data[0], byte, name))
    data, out = run(f"cvt_f32_{name}", ("int", "int", "int"))
    same(out[0], bytes_as(data[0], 0, name))
    for word, suffix in enumerate(("", "_1")):
        data, out = run(f"cvt_pk_f32_{name}{suffix}", ("int", "int", "int"))
        for i in range(2):
            same(out[i], bytes_as(data[0], 2 * word + i, name))


@pytest.mark.parametrize("name", FORMATS)
def test_f32_to_8bit_packed(run, name):
    for word, suffix in enumerate(("", "_1")):
        data, out = run(f"cvt_pk_{name}_f32{suffix}", ("f32", "f32", "int"))
        packed = to_bytes(data[0], name) | to_bytes(data[2], name) << 8
        kept = data[8] & np.uint32(0xFFFF << (16 * (1 - word)))
        np.testing.assert_array_equal(out[0], kept | packed << np.uint32(16 * word))


@pytest.mark.parametrize("name", FORMATS)
def test_f32_to_8bit_stochastic(run, name):
    """Each result is one of the two neighbours of the value, in the byte asked for."""
    for byte in range(4):
        data, out = run(f"cvt_sr_{name}_f32_{byte}", ("f32", "int", "int"))
        np.testing.assert_array_equal(out[0] & ~np.uint32(0xFF << (8 * byte)), data[8] & ~np.uint32(0xFF << (8 * byte)))
        x, got = data[0].view(np.float32), bytes_as(out[0], byte, name)
        limit = float(ml_dtypes.finfo(FORMATS[name]).max)
        inside = np.abs(x) < limit
        step = np.maximum(
            np.exp2(np.floor(np.log2(np.maximum(np.abs(x[inside]), 1e-30)))) * (0.125 if name == "fp8" else 0.25),
            float(ml_dtypes.finfo(FORMATS[name]).smallest_subnormal),
        )
        assert (np.abs(got[inside].astype(np.float64) - x[inside]) < step * 1.0001).all()
        assert np.isnan(got[~(np.abs(x) < limit * 1.2)]).all()


def test_division_f32(run):
    data, out = run("divide_f32", ("f32", "f32", "int"))
    with np.errstate(all="ignore"):
        want = data[0].view(np.float32) / data[2].view(np.float32)
    # A denormal quotient is rounded twice by the sequence (once unscaled): it may be one step off.
    normal = ~((np.abs(want) < 2.0**-125) & (want != 0))
    same(out[0][normal], want[normal])
    assert (np.abs(out[0][~normal].view(np.int32) - want[~normal].view(np.int32)) <= 1).all()


def test_division_f64(run):
    data, out = run("divide_f64", ("f64", "f64", "int"), dwords=2)
    a, b, got = (x[0].astype(np.uint64) | x[1].astype(np.uint64) << np.uint64(32) for x in (data[0:2], data[2:4], out))
    with np.errstate(all="ignore"):
        want = a.view(np.float64) / b.view(np.float64)
    normal = ~((np.abs(want) < 2.0**-1021) & (want != 0))
    same(got[normal], want[normal], np.float64)
    assert (np.abs(got[~normal].view(np.int64) - want[~normal].view(np.int64)) <= 1).all()


def halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = [widen((x >> s).astype(np.uint16).view(np.float16)) for s in (0, 16)]
    return parts[0], parts[1]


def bfloat_halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = [widen((x << 16).view(np.float32)), widen((x & np.uint32(0xFFFF0000)).view(np.float32))]
    return parts[0], parts[1]


@pytest.mark.parametrize("name", ["dot2_f32_f16", "dot2c_f32_f16", "dot2_f32_bf16", "dot2c_f32_bf16"])
def test_dot2_within_two_roundings(run, run950, name):
    """Fused or not is not documented: each of at most three roundings is 2^-24 of the magnitudes summed."""
    kind = name.rsplit("_", 1)[1]
    data, out = (run950 if kind == "bf16" else run)(name, (kind, kind, "f32"))
    split = bfloat_halves if kind == "bf16" else halves
    (a0, a1), (b0, b1) = split(data[0]), split(data[2])
    c = widen(data[4 if "2c" not in name else 8].view(np.float32))
    with np.errstate(all="ignore"):
        exact = a0 * b0 + a1 * b1 + c
        bound = 3 * 2.0**-24 * (np.abs(a0 * b0) + np.abs(a1 * b1) + np.abs(c)) + 2.0**-148
    ordinary = np.isfinite(exact) & (bound < 2.0**100)
    assert ordinary.sum() > 100
    assert (np.abs(out[0].view(np.float32)[ordinary] - exact[ordinary]) <= bound[ordinary]).all()
    assert np.isnan(out[0].view(np.float32)[np.isnan(exact)]).all()


@pytest.mark.parametrize(("name", "mantissa", "smallest"), [("f16", 10, -14), ("bf16", 7, -126)])
def test_stochastic_16_bits(run950, name, mantissa, smallest):
    """Up when the fraction that a normal result drops plus the random number's top bits reach one."""
    dtype = np.float16 if name == "f16" else ml_dtypes.bfloat16
    for half in range(2):
        data, out = run950(f"cvt_sr_{name}_f32_{half}", ("f32", "int", "int"))
        x, seed = widen(data[0].view(np.float32)), data[2]
        with np.errstate(all="ignore"):
            magnitude = np.abs(x)
            normal = np.isfinite(x) & (magnitude >= 2.0**smallest) & (magnitude < float(ml_dtypes.finfo(dtype).max))
            step = np.exp2(np.floor(np.log2(np.where(normal, magnitude, 1.0))) - mantissa)
            below = np.floor(magnitude / step)
            up = magnitude / step - below + (seed >> np.uint32(32 - (23 - mantissa))) / 2.0 ** (23 - mantissa) >= 1
            want = np.copysign((below + up) * step, x).astype(dtype).view(np.uint16)
        got = (out[0] >> np.uint32(16 * half)).astype(np.uint16)
        assert normal.sum() > 100
        np.testing.assert_array_equal(got[normal], want[normal])
        np.testing.assert_array_equal(np.isnan(got.view(dtype).astype(np.float32)), np.isnan(x))
        kept = np.uint32(0xFFFF << (16 - 16 * half))
        np.testing.assert_array_equal(out[0] & kept, data[8] & kept)


def test_overflow_toward_zero(run):
    """Rounding toward zero, "regardless of current round mode" as the ISA document says, an overflow gives the largest finite
    number (IEEE 754, 7.4; LLVM folds the intrinsic the same way). Only infinity itself stays infinite."""
    data, out = run("pkrtz", ("f32", "f32", "int"))
    largest, seen = float(np.finfo(np.float16).max), 0
    for source, got in ((data[0], out[0] & 0xFFFF), (data[2], out[0] >> 16)):
        x, h = widen(source.view(np.float32)), got.astype(np.uint16).view(np.float16)
        over = np.isfinite(x) & (np.abs(x) > largest)
        np.testing.assert_array_equal(h[over], np.copysign(np.float16(largest), x[over]))
        np.testing.assert_array_equal(h[np.isinf(x)], x[np.isinf(x)])
        inside = np.isfinite(x) & ~over
        assert (np.abs(widen(h)[inside]) <= np.abs(x[inside])).all()
        seen += over.sum()
    assert seen > 20


def test_division_fixup_of_f16_legacy(run):
    """By IEEE's rules for a quotient whose rounded value is the first source; the high half becomes zero. The published text
    mixes up its types (it would convert the pattern 0xfe00 to a number), so this states the rules anew."""
    data, out = run("div_fixup_legacy", ("f16", "f16", "f16"))
    q, d, n = (widen((data[i] & 0xFFFF).astype(np.uint16).view(np.float16)) for i in (0, 2, 4))
    with np.errstate(all="ignore"):
        special = n / d  # zeros, infinities and NaN are those of the exact quotient
    number = np.isfinite(special) & (special != 0) & np.isfinite(n) & np.isfinite(d)
    magnitude = np.where(number, np.abs(q), np.abs(special))
    want = np.copysign(magnitude, np.where(np.signbit(n) ^ np.signbit(d), -1.0, 1.0))
    got = out[0].astype(np.uint16).view(np.float16)
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got[~nan].view(np.uint16), want[~nan].astype(np.float16).view(np.uint16))
    assert (out[0] >> 16 == 0).all()


def test_accumulation_registers(run):
    data, out = run("accvgpr", ("int", "int", "int"))
    np.testing.assert_array_equal(out[0], data[0])


def test_lds_wrap(run):
    """A ring index: back by the first operand if it has reached that, else on by the second. No pseudo-code is published."""
    data, out = run("wrap", ("int", "int", "int"))
    old, limit, step = data[0], data[2], data[4]
    np.testing.assert_array_equal(out[0], old)
    np.testing.assert_array_equal(out[1], np.where(old >= limit, old - limit, old + step))


def test_fma_mix(run):
    data, out = run("fma_mix", ("f16", "f16", "f32"))
    with np.errstate(all="ignore"):
        exact = halves(data[0])[1] * np.abs(halves(data[2])[0]) - data[4].view(np.float32).astype(np.float64)
        want = exact.astype(np.float32)  # the f64 sum is exact unless the terms lie 2^29 apart: then no tie is near
    same(out[0], want)
    data, out = run("fma_mixlo", ("f16", "f32", "f16"))
    with np.errstate(all="ignore"):
        exact = halves(data[0])[0] * data[2].view(np.float32).astype(np.float64) + halves(data[4])[0]
        twice = exact.astype(np.float32).astype(np.float16)
    got = (out[0] & 0xFFFF).astype(np.uint16)
    nan = np.isnan(twice)
    assert (np.isnan(got.view(np.float16)) == nan).all()
    assert (np.abs(got[~nan].astype(int) - twice.view(np.uint16)[~nan].astype(int)) <= 1).all()
    np.testing.assert_array_equal(out[0] >> 16, data[8] >> 16)
    data, out = run("fma_mixhi", ("f32", "f16", "f16"))
    with np.errstate(all="ignore"):
        exact = data[0].view(np.float32).astype(np.float64) * halves(data[2])[1] + halves(data[4])[1]
        clamped = np.where(np.isnan(exact), 0.0, np.clip(exact, 0, 1) + 0.0).astype(np.float16)
    got = (out[0] >> 16).astype(np.uint16)
    assert (np.abs(got.astype(int) - clamped.view(np.uint16).astype(int)) <= 1).all()
    np.testing.assert_array_equal(out[0] & 0xFFFF, data[8] & 0xFFFF)


def test_packed_f32_selects_and_negations(run):
    data, out = run("pk_fma_sel", ("f32", "f32", "f32"), dwords=2)
    minus = np.uint32(0x80000000)
    same(out[0], exact_fma(data[1] ^ minus, data[2], data[5]))
    same(out[1], exact_fma(data[0], data[2], data[5] ^ minus))
    data, out = run("pk_mov", ("int", "int", "int"), dwords=2)
    np.testing.assert_array_equal(out, [data[1], data[2]])


def test_packed_f16_selects_and_negations(run):
    data, out = run("pk_mul_f16_sel", ("f16", "f16", "int"))
    (a0, a1), (b0, _) = halves(data[0]), halves(data[2])
    with np.errstate(all="ignore"):
        low, high = (a1 * -b0).astype(np.float16), (-a0 * b0).astype(np.float16)
    same((out[0] & 0xFFFF).astype(np.uint16), low, np.float16)
    same((out[0] >> 16).astype(np.uint16), high, np.float16)


@pytest.mark.parametrize("name", ["add_u32", "sub_u32", "add_i32", "sub_i32", "add_u16", "sub_u16", "add_i16", "sub_i16"])
def test_integer_clamp_saturates(run, name):
    data, out = run(f"add_clamp_{name}", ("int", "int", "int"))
    operation, kind = name.split("_")
    dtype = {"u32": np.uint32, "i32": np.int32, "u16": np.uint16, "i16": np.int16}[kind]
    unsigned = np.uint32 if "32" in kind else np.uint16
    x, y = (data[i].astype(unsigned).view(dtype).astype(np.int64) for i in (0, 2))
    exact = x + y if operation == "add" else x - y
    info = np.iinfo(dtype)
    want = np.clip(exact, info.min, info.max).astype(dtype).view(unsigned)
    np.testing.assert_array_equal(out[0].astype(unsigned), want)
