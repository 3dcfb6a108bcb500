"""gfx950's scaled conversions: every form against the definition of its formats, with EXEC partly off.

A narrow element stands for code * 2^(scale - 127), scale being the exponent field of the scale operand. Narrowing rounds
the quotient to the nearest code, ties to even, or stochastically: up when the discarded fraction plus the random number's
top bits (as many as a normal result discards) reach one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import assembler
import ml_dtypes
import numpy as np
import opcodes
import pytest
from kernels import HEADER, kernel
from valu_check import launch

EXEC = 0xFF7F_0F3C_FFFE_7FFD
ACTIVE = np.array([bool(EXEC >> i & 1) for i in range(64)])
LANES = np.arange(64)
SCALES = 100 + LANES  # exponent fields
SEEDS = (LANES.astype(np.uint64) * 2654435769 + 12345 & 0xFFFFFFFF).astype(np.uint32)
OLD = 0x5A5A5A5A
SOURCE, TARGET = 10, 64  # first registers; the scale is in v42, the random number in v43


class Format(NamedTuple):
    bits: int
    mantissa: int
    dtype: type

    @property
    def values(self) -> np.ndarray:
        """Finite non-negative values in the order of their codes."""
        v = np.arange(1 << (self.bits - 1), dtype=np.uint8).view(self.dtype).astype(np.float64)
        return v[np.isfinite(v)]


class NARROW:
    fp8 = Format(8, 3, ml_dtypes.float8_e4m3fn)
    bf8 = Format(8, 2, ml_dtypes.float8_e5m2)
    fp6 = Format(6, 3, ml_dtypes.float6_e2m3fn)
    bf6 = Format(6, 2, ml_dtypes.float6_e3m2fn)
    fp4 = Format(4, 1, ml_dtypes.float4_e2m1fn)


WIDE = {"f32": (32, np.float32), "f16": (16, np.float16), "bf16": (16, ml_dtypes.bfloat16)}


class Form(NamedTuple):
    op: opcodes.Opcode
    count: int  # elements
    narrow: str
    wide: str
    narrowing: bool
    stochastic: bool
    two_sources: bool  # wide elements in S0 and S1 (f32 pairs), interleaved


def form(op: opcodes.Opcode) -> Form:
    rest = op.base.removeprefix("v_cvt_scalef32_")
    stochastic = rest.startswith("sr_")
    rest = rest.removeprefix("sr_")
    count = 32 if re.match(r"pk32|2xpk16", rest) else 2 if rest.startswith("pk_") else 1
    to, source = re.sub(r"^(pk32_|2xpk16_|pk_)", "", rest).split("_")
    narrowing = to not in WIDE
    narrow, wide = (to, source) if narrowing else (source, to)
    two = narrowing and wide == "f32" and not stochastic and (count == 2 or "2xpk16" in op.base)
    return Form(op, count, narrow, wide, narrowing, stochastic, two)


FORMS = [form(op) for op in opcodes.rows("gfx950") if op.base.startswith("v_cvt_scalef32_")]


def places(f: Form) -> list[int]:
    """Bit offsets at which the narrow elements, or a lone f16 result, may lie: one op_sel each."""
    width = f.count * getattr(NARROW, f.narrow).bits
    return [0] if f.count == 32 else list(range(0, 32, max(width, 8)))


def op_sel(f: Form, place: int) -> str:
    if f.count == 32:
        return ""
    half_word = f.count == 2 and f.narrow != "fp4"  # selected by one bit, else by two
    number = place // 16 if half_word else place // 8
    if f.narrowing:
        bits = [0, 0, 0, number] if half_word else [0, 0, number & 1, number >> 1]
    else:
        bits = [number, 0, 0, 0] if half_word else [number & 1, number >> 1, 0, 0]
    sources = len(f.op.operands) - 1
    # The assembler wants one entry per source and one for the destination.
    shown = bits[:sources] + bits[3:] if sources < 3 and half_word else bits
    return f" op_sel:[{','.join(map(str, shown))}]" if any(bits) else ""


def registers(first: int, count: int) -> str:
    return f"v{first}" if count == 1 else f"v[{first}:{first + count - 1}]"


def name_of(f: Form, place: int) -> str:
    return f"{f.op.base}__{place}"


def body(f: Form, place: int) -> str:
    operands = [registers(TARGET, f.op.width("d"))]
    first = SOURCE
    roles = [r for r, _ in f.op.operands if r in "012"]
    for role in roles[:-1]:
        width = f.op.width(role)
        if f.stochastic and role == "1":
            operands.append("v43")
        else:
            operands.append(registers(first, width))
            first += width
    operands.append("v42")
    fill = "\n".join(f"  v_mov_b32 v{TARGET + i}, {OLD:#x}" for i in range(32))
    return f"""
  v_add_u32 v42, 100, v2
  v_lshlrev_b32 v42, 23, v42
  s_mov_b32 s20, 0x9e3779b9
  v_mul_lo_u32 v43, v2, s20
  v_add_u32 v43, 12345, v43
{fill}
  s_mov_b32 exec_lo, {EXEC & 0xFFFFFFFF:#x}
  s_mov_b32 exec_hi, {EXEC >> 32:#x}
  {f.op.mnemonic} {", ".join(operands)}{op_sel(f, place)}
"""


def bodies() -> dict[str, str]:
    return {name_of(f, place): body(f, place) for f in FORMS for place in places(f)}


@pytest.fixture(scope="module")
def run(machines):
    machine = machines("gfx950")
    outputs = [f"v{TARGET + i}" for i in range(32)]
    texts = {n: kernel(n, b, 32, outputs) for n, b in bodies().items()}
    big = {"next_free_vgpr 128": "next_free_vgpr 256", "accum_offset 64": "accum_offset 128"}
    for old, new in big.items():
        texts = {n: t.replace(old, new) for n, t in texts.items()}
    image, rejected = assembler.assemble_valid(texts, "gfx950", HEADER)
    assert not rejected, rejected
    module = machine.load(image)
    return lambda name, data: launch(machine, module, name, data[None], 32)[0]


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """[element][lane] codes into [dword][lane]."""
    total = sum(codes[e].astype(object) << (bits * e) for e in range(len(codes)))
    return np.array([[int(x) >> (32 * i) & 0xFFFFFFFF for x in total] for i in range(-(-len(codes) * bits // 32))], np.uint32)


def unpack(words: np.ndarray, bits: int, count: int, first: int = 0) -> np.ndarray:
    total = sum(words[i].astype(object) << (32 * i) for i in range(len(words)))
    return np.array([[int(x) >> (first + bits * e) & ((1 << bits) - 1) for x in total] for e in range(count)], np.uint32)


def rounded(y: np.ndarray, fmt: Format, seeds: np.ndarray | None) -> np.ndarray:
    """Codes of y, which lies within the format's range."""
    magnitude = np.abs(y)
    below = np.searchsorted(fmt.values, magnitude, side="right") - 1
    above = np.minimum(below + 1, len(fmt.values) - 1)
    gap = np.where(above > below, fmt.values[above] - fmt.values[below], 1)
    fraction = (magnitude - fmt.values[below]) / gap
    if seeds is None:
        up = (fraction > 0.5) | ((fraction == 0.5) & (below % 2 == 1))
    else:
        dropped = 23 - fmt.mantissa
        up = fraction + (seeds >> np.uint32(32 - dropped)) / 2.0**dropped >= 1
    return (below + up | np.where(np.signbit(y), 1 << (fmt.bits - 1), 0)).astype(np.uint32)


def random_stream(f: Form) -> np.ndarray | None:
    """[element][lane] random numbers: the generator's next value for each element."""
    if not f.stochastic:
        return None
    out, x = [], SEEDS.astype(np.uint64)
    for _ in range(f.count):
        out.append(x.astype(np.uint32))
        x = (x << np.uint64(1) & np.uint64(0xFFFFFFFF)) ^ np.where(x >> np.uint64(31) & np.uint64(1), np.uint64(197), np.uint64(0))
    return np.array(out)


@pytest.mark.parametrize("f", [f for f in FORMS if f.narrowing], ids=lambda f: f.op.base)
def test_to_narrow(run, f):
    fmt, (bits, dtype) = getattr(NARROW, f.narrow), WIDE[f.wide]
    for place in places(f):
        rng = np.random.default_rng(place)
        scale = np.exp2(SCALES - 127.0)
        if f.wide == "f16":
            scale = np.exp2(np.clip(SCALES - 127.0, -10, 6))  # lanes further out get values beyond the format's range
        y = np.where(rng.random((f.count, 64)) < 0.3, rng.choice(fmt.values, (f.count, 64)), rng.normal(size=(f.count, 64)) * 2)
        y = np.clip(y, -fmt.values[-1], fmt.values[-1])
        with np.errstate(all="ignore"):
            x = (y * scale).astype(dtype)
        exact = x.astype(np.float64) / np.exp2(SCALES - 127.0)
        inside = np.abs(exact) <= fmt.values[-1]
        codes = x.view(np.uint16 if bits == 16 else np.uint32).astype(np.uint32)
        words = np.concatenate([codes[0::2], codes[1::2]]) if f.two_sources else pack(codes, bits)
        data = np.zeros((32, 64), np.uint32)
        data[: len(words)] = words
        out = run(name_of(f, place), data)
        width = f.op.width("d")
        got = unpack(out[:width], fmt.bits, f.count, place)
        want = rounded(exact, fmt, random_stream(f))
        if fmt.bits < 8:  # these saturate; the 8-bit formats have values for too large, tested in tests/sem
            want = np.where(inside, want, fmt.values.size - 1 | np.where(np.signbit(exact), 1 << (fmt.bits - 1), 0))
            inside = np.ones_like(inside)
        old = unpack(np.full((width, 64), OLD, np.uint32), fmt.bits, f.count, place)
        ok = np.where(ACTIVE, (got == want) | ~inside, got == old)
        assert ok.all(), (place, np.argwhere(~ok)[:4], exact[~ok][:4], got[~ok][:4], want[~ok][:4])
        if f.count < 32:  # the rest of the register stays
            field = ((1 << (f.count * fmt.bits)) - 1) << place
            assert ((out[0] & ~np.uint32(field)) == (OLD & ~field & 0xFFFFFFFF)).all()


@pytest.mark.parametrize("f", [f for f in FORMS if not f.narrowing], ids=lambda f: f.op.base)
def test_to_wide(run, f):
    fmt, (bits, dtype) = getattr(NARROW, f.narrow), WIDE[f.wide]
    for place in places(f):
        rng = np.random.default_rng(place)
        width = f.op.width("0")
        data = np.zeros((32, 64), np.uint32)
        data[:width] = rng.integers(0, 1 << 32, (width, 64), dtype=np.uint32)
        codes = unpack(data[:width], fmt.bits, f.count, place)
        values = codes.astype(np.uint8).view(fmt.dtype).astype(np.float64) * np.exp2(SCALES - 127.0)
        with np.errstate(all="ignore"):
            want = values.astype(np.float32).astype(dtype)
        out = run(name_of(f, place), data)
        got = unpack(out[: max(f.count * bits // 32, 1)], bits, f.count).astype(np.uint32 if bits == 32 else np.uint16).view(dtype)
        with np.errstate(all="ignore"):
            nan = np.isnan(want.astype(np.float32))
            assert (np.isnan(got.astype(np.float32)) == nan)[:, ACTIVE].all()
        assert (got.view(f"u{bits // 8}") == want.view(f"u{bits // 8}"))[:, ACTIVE][~nan[:, ACTIVE]].all(), place
        assert (out[:, ~ACTIVE] == OLD).all()
