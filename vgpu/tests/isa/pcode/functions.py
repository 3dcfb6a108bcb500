"""The functions that the pseudo-code calls without defining."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from .arithmetic import boolean, cast, fma
from .values import Value, convert_float, float_bits, is_inf, is_nan, make, nan, number, round_to, sign


def exponent(v: Value) -> Value:
    f = v.format
    return make("i", 32, (v.bits >> f.mantissa) & ((1 << f.exponent) - 1))


def frexp_exponent(v: Value) -> int:
    x = abs(number(v))
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e + 1 if x >= Fraction(2) ** e else e


def mantissa(v: Value) -> Value:
    """x scaled into [0.5, 1), as frexp has it."""
    x = number(v)
    return v if x == 0 else round_to(v.kind, v.width, x / Fraction(2) ** frexp_exponent(v))


def _to_integer(kind: str, width: int) -> Callable[[Value], Value]:
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if kind == "i" else (0, (1 << width) - 1)

    def convert(v: Value) -> Value:
        if is_nan(v):
            return make(kind, width, 0)
        x = number(v)
        if isinstance(x, float):
            return make(kind, width, high if x > 0 else low)
        return make(kind, width, min(max(math.trunc(x), low), high))

    return convert


def _clamp_integer(kind: str, width: int) -> Callable[[Value], Value]:
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if kind == "i" else (0, (1 << width) - 1)
    return lambda v: make(kind, width, min(max(v.integer, low), high))


def _round_float(rounding: Callable) -> Callable[[Value], Value]:
    def apply(v: Value) -> Value:
        if is_nan(v) or is_inf(v):
            return quieted(v)
        return round_to(v.kind, v.width, Fraction(rounding(number(v))), bool(sign(v)))

    return apply


def quieted(v: Value) -> Value:
    return Value(v.kind, v.width, v.bits | 1 << (v.format.mantissa - 1)) if is_nan(v) else v


def _through_f64(f: Callable[[float], float]) -> Callable[[Value], Value]:
    """For functions tested within an ulp bound: the host's double-precision function."""

    def apply(v: Value) -> Value:
        with np.errstate(all="ignore"):
            argument = float(number(v)) or (-0.0 if sign(v) else 0.0)
            x = float(f(np.float64(argument)))
        wide = Value("f", 64, float_bits(x, 64))
        return nan(v.kind, v.width) if math.isnan(x) else convert_float(wide, v.kind, v.width)

    return apply


def power(base: Value, v: Value) -> Value:
    return _through_f64(lambda x: np.exp2(x) if number(base) == 2 else np.power(float(number(base)), x))(v)


def norm(limit: int, signed: bool) -> Callable[[Value], Value]:
    def convert(v: Value) -> Value:
        x = number(v)
        if isinstance(x, float):
            x = 0 if math.isnan(x) else math.copysign(1, x)
        x = min(max(Fraction(x), Fraction(-1 if signed else 0)), Fraction(1)) * limit
        return make("i" if signed else "u", 16, round(x))

    return convert


def is_signal_nan(v: Value) -> bool:
    return is_nan(v) and not v.bits >> (v.format.mantissa - 1) & 1


def to_u8(v: Value) -> Value:
    x = number(v)
    if isinstance(x, float):
        return make("u", 8, 255 if x > 0 and not math.isnan(x) else 0)
    return make("u", 8, min(max(round(x), 0), 255))


def sign_extend_from(v: Value, width: Value) -> Value:
    bits = width.integer
    if bits == 0:
        return make(v.kind, v.width, 0)
    value = v.bits & ((1 << bits) - 1)
    return make(v.kind, v.width, value - (1 << bits) if value >> (bits - 1) else value)


def prng(v: Value) -> Value:
    return make("u", 32, (v.bits << 1) ^ (197 if v.bits >> 31 & 1 else 0))


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "abs": lambda v: (
        Value(v.kind, v.width, v.bits & ~(1 << (v.width - 1))) if v.is_float else make(v.kind, v.width, abs(v.integer))
    ),
    "sign": lambda v: boolean(bool(sign(v))),
    "exponent": exponent,
    "mantissa": mantissa,
    "isNAN": lambda v: boolean(is_nan(v)),
    "isSignalNAN": lambda v: boolean(is_signal_nan(v)),
    "isQuietNAN": lambda v: boolean(is_nan(v) and not is_signal_nan(v)),
    "cvtToQuietNAN": quieted,
    "isEven": lambda v: boolean(not isinstance(number(v), float) and int(number(v)) % 2 == 0),
    "fma": fma,
    "ldexp": lambda v, n: (
        v if is_nan(v) or is_inf(v) else round_to(v.kind, v.width, number(v) * Fraction(2) ** n.integer, bool(sign(v)))
    ),
    "trunc": _round_float(math.trunc),
    "floor": _round_float(math.floor),
    "fract": lambda v: v if isinstance(number(v), float) else round_to(v.kind, v.width, number(v) - math.floor(number(v))),
    "sqrt": _through_f64(np.sqrt),
    "log2": _through_f64(np.log2),
    "pow": power,
    "sin": _through_f64(np.sin),
    "cos": _through_f64(np.cos),
    "signext": lambda v: make("i", 64, make("i", v.width, v.bits).integer),
    "signext_from_bit": sign_extend_from,
    "f32_to_i32": _to_integer("i", 32),
    "f32_to_u32": _to_integer("u", 32),
    "f64_to_i32": _to_integer("i", 32),
    "f64_to_u32": _to_integer("u", 32),
    "f16_to_i16": _to_integer("i", 16),
    "f16_to_u16": _to_integer("u", 16),
    "f32_to_u8": to_u8,
    "i32_to_i16": _clamp_integer("i", 16),
    "u32_to_u16": _clamp_integer("u", 16),
    "f32_to_snorm": norm(32767, True),
    "f32_to_unorm": norm(65535, False),
    "f16_to_snorm": norm(32767, True),
    "f16_to_unorm": norm(65535, False),
    "v_prng_b32": prng,
}
for _name, _kind, _width in (("f16", "f", 16), ("f32", "f", 32), ("f64", "f", 64), ("bf16", "bf", 16)):
    for _source in ("f16", "f32", "f64", "bf16", "i32", "u32", "i16", "u16"):
        FUNCTIONS[f"{_source}_to_{_name}"] = lambda v, k=_kind, w=_width: quieted(cast(k, w, v))
for _bits, _letter in ((4, "i"), (8, "i"), (16, "i"), (4, "u"), (8, "u"), (16, "u")):
    FUNCTIONS[f"{_letter}{_bits}_to_{_letter}32"] = lambda v, k=_letter: make(k, 32, v.integer)
