"""Typed bit patterns and exact arithmetic on them."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import NamedTuple


class Format(NamedTuple):
    bits: int
    exponent: int
    mantissa: int

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1


FORMATS = {
    ("f", 16): Format(16, 5, 10),
    ("f", 32): Format(32, 8, 23),
    ("f", 64): Format(64, 11, 52),
    ("bf", 16): Format(16, 8, 7),
}


class Value(NamedTuple):
    kind: str  # u unsigned, i signed, b untyped bits, f and bf floating point, real an exact number
    width: int
    bits: int | Fraction

    @property
    def integer(self) -> int:
        if self.kind == "i" and self.width and self.bits >> (self.width - 1):
            return self.bits - (1 << self.width)
        return self.bits

    @property
    def is_float(self) -> bool:
        return self.kind in ("f", "bf")

    @property
    def format(self) -> Format:
        return FORMATS[self.kind, self.width]

    @property
    def truth(self) -> bool:
        return bool(number(self)) if self.is_float else self.bits != 0


def make(kind: str, width: int, value: int) -> Value:
    return Value(kind, width, value & ((1 << width) - 1))


def is_nan(v: Value) -> bool:
    f = v.format
    return (v.bits & ((1 << (f.bits - 1)) - 1)) > ((1 << f.exponent) - 1) << f.mantissa


def is_inf(v: Value) -> bool:
    f = v.format
    return (v.bits & ((1 << (f.bits - 1)) - 1)) == ((1 << f.exponent) - 1) << f.mantissa


def sign(v: Value) -> int:
    return v.bits >> (v.width - 1)


def number(v: Value) -> Fraction | float:
    """The exact value: a Fraction, or the floats inf, -inf, nan."""
    if v.kind == "real":
        return v.bits
    if not v.is_float:
        return Fraction(v.integer)
    if is_nan(v):
        return math.nan
    if is_inf(v):
        return -math.inf if sign(v) else math.inf
    f = v.format
    exponent = (v.bits >> f.mantissa) & ((1 << f.exponent) - 1)
    mantissa = v.bits & ((1 << f.mantissa) - 1)
    if exponent:
        mantissa |= 1 << f.mantissa
    power = max(exponent, 1) - f.bias - f.mantissa
    magnitude = Fraction(mantissa << power) if power >= 0 else Fraction(mantissa, 1 << -power)
    return -magnitude if sign(v) else magnitude


def nan(kind: str, width: int) -> Value:
    f = FORMATS[kind, width]
    return Value(kind, width, ((1 << (f.exponent + 1)) - 1) << (f.mantissa - 1))


def infinity(kind: str, width: int, negative: bool = False) -> Value:
    f = FORMATS[kind, width]
    return Value(kind, width, (((1 << f.exponent) - 1) << f.mantissa) | (int(negative) << (width - 1)))


def round_to(kind: str, width: int, x: Fraction | float, negative_zero: bool = False, mode: str = "even") -> Value:
    """Rounds an exact number. `mode` is even, zero, plus or minus."""
    f = FORMATS[kind, width]
    if isinstance(x, float):
        if math.isnan(x):
            return nan(kind, width)
        if math.isinf(x):
            return infinity(kind, width, x < 0)
        x = Fraction(x)
    negative = x < 0 or (x == 0 and negative_zero)
    magnitude = abs(x)
    if magnitude == 0:
        return Value(kind, width, int(negative) << (width - 1))
    # floor(log2(magnitude)), then the unit in the last place of the result's binade
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < (Fraction(2) ** exponent):
        exponent -= 1
    exponent = max(exponent, 1 - f.bias)
    ulp = Fraction(2) ** (exponent - f.mantissa)
    units = magnitude / ulp
    whole = units.numerator // units.denominator
    rest = units - whole
    up = {
        "even": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole & 1),
        "zero": False,
        "plus": rest > 0 and not negative,
        "minus": rest > 0 and negative,
    }[mode]
    whole += int(up)
    bits = whole + ((exponent + f.bias - 1) << f.mantissa)  # the leading one adds itself to the exponent field
    top = ((1 << f.exponent) - 1) << f.mantissa
    if bits >= top:
        to_infinity = mode == "even" or (mode == "plus" and not negative) or (mode == "minus" and negative)
        bits = top if to_infinity else top - 1
    return Value(kind, width, bits | (int(negative) << (width - 1)))


def convert_float(v: Value, kind: str, width: int, mode: str = "even") -> Value:
    if v.is_float and is_nan(v):
        target, source = FORMATS[kind, width], v.format
        payload = v.bits & ((1 << source.mantissa) - 1)
        shift = target.mantissa - source.mantissa
        payload = payload << shift if shift >= 0 else payload >> -shift
        # A signalling NaN stays signalling through a widening only; the documents' helpers rely on that.
        quiet = 0 if shift >= 0 else 1 << (target.mantissa - 1)
        top = ((1 << target.exponent) - 1) << target.mantissa
        return Value(kind, width, top | payload | quiet | (sign(v) << (width - 1)))
    negative_zero = v.is_float and bool(sign(v))
    return round_to(kind, width, number(v), negative_zero, mode)


def float_bits(x: float, width: int) -> int:
    code = {32: ("<f", "<I"), 64: ("<d", "<Q")}[width]
    return struct.unpack(code[1], struct.pack(code[0], x))[0]
