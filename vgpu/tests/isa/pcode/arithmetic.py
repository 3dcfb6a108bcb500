"""Operators of the pseudo-code on typed values. Integers follow C's promotion to at least 32 bits."""

from __future__ import annotations

import math
from fractions import Fraction

from .values import Value, convert_float, infinity, is_inf, is_nan, make, nan, number, round_to, sign


def _inf(x: Fraction | float) -> bool:
    return isinstance(x, float) and math.isinf(x)


def boolean(x: bool) -> Value:
    return Value("u", 1, int(x))


def cast(kind: str, width: int, v: Value, mode: str = "even") -> Value:
    if kind in ("f", "bf"):
        if v.is_float:
            return v if (v.kind, v.width) == (kind, width) else convert_float(v, kind, width, mode)
        if v.kind == "b":
            return Value(kind, width, v.bits & ((1 << width) - 1))
        return round_to(kind, width, number(v), mode=mode)
    if v.kind == "real":
        return make(kind, width, int(v.bits))
    return make(kind, width, v.bits if v.is_float else v.integer)


def reinterpret(kind: str, width: int, v: Value) -> Value:
    """`.u32`, `.f16` ...: the low bits, sign-extended if the source is a narrower signed integer."""
    return make(kind, width, v.bits if v.is_float else v.integer)


def _promote(a: Value, b: Value) -> tuple[str, int]:
    signed = a.kind == "i" and b.kind == "i"
    return ("i" if signed else "u"), max(a.width, b.width, 32)


def _float_type(a: Value, b: Value) -> tuple[str, int]:
    if a.is_float and b.is_float:
        return (a.kind, a.width) if a.width >= b.width else (b.kind, b.width)
    return (a.kind, a.width) if a.is_float else (b.kind, b.width)


def _float_arithmetic(op: str, a: Value, b: Value, mode: str) -> Value:
    kind, width = _float_type(a, b)
    for v in (a, b):
        if v.is_float and is_nan(v):
            return convert_float(Value(v.kind, v.width, v.bits | 1 << (v.format.mantissa - 1)), kind, width)
    x, y = number(a), number(b)
    negative_a = bool(a.is_float and sign(a)) or x < 0
    negative_b = bool(b.is_float and sign(b)) or y < 0
    if op == "-":
        y, negative_b, op = -y, not negative_b, "+"
    if op == "+":
        if _inf(x) and _inf(y) and x != y:
            return nan(kind, width)
        if _inf(x) or _inf(y):
            return infinity(kind, width, (x if _inf(x) else y) < 0)
        total = x + y
        negative_zero = (negative_a and negative_b) or (mode == "minus" and x != 0)
        return round_to(kind, width, total, negative_zero, mode)
    negative = negative_a != negative_b
    if op == "*":
        if (_inf(x) and y == 0) or (_inf(y) and x == 0):
            return nan(kind, width)
        if _inf(x) or _inf(y):
            return infinity(kind, width, negative)
        return round_to(kind, width, x * y, negative, mode)
    if op == "/":
        if (x == 0 and y == 0) or (_inf(x) and _inf(y)):
            return nan(kind, width)
        if _inf(x) or y == 0:
            return infinity(kind, width, negative)
        return round_to(kind, width, Fraction(0) if _inf(y) else Fraction(x) / Fraction(y), negative, mode)
    raise NotImplementedError(f"floating-point {op}")


def fma(a: Value, b: Value, c: Value, mode: str = "even") -> Value:
    kind, width = a.kind, a.width
    for v in (a, b, c):
        if is_nan(v):
            return Value(kind, width, v.bits | 1 << (v.format.mantissa - 1))
    if (is_inf(a) and number(b) == 0) or (is_inf(b) and number(a) == 0):
        return nan(kind, width)
    negative = sign(a) != sign(b)
    if is_inf(a) or is_inf(b):
        if is_inf(c) and bool(sign(c)) != negative:
            return nan(kind, width)
        return infinity(kind, width, negative)
    if is_inf(c):
        return c
    total = number(a) * number(b) + number(c)
    product_zero_sign = negative
    negative_zero = product_zero_sign and bool(sign(c))
    return round_to(kind, width, total, negative_zero, mode)


def _compare(op: str, a: Value, b: Value) -> Value:
    x, y = number(a), number(b)
    if any(isinstance(v, float) and math.isnan(v) for v in (x, y)):
        return boolean(op == "!=")
    return boolean({"==": x == y, "!=": x != y, "<>": x != y, "<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}[op])


def binary(op: str, a: Value, b: Value, mode: str = "even") -> Value:
    if op in ("==", "!=", "<>", "<", "<=", ">", ">="):
        return _compare(op, a, b)
    if op == "**":
        # Beyond the range of every format times every denormal, so larger exponents mean the same.
        return Value("real", 0, Fraction(number(a)) ** min(max(int(number(b)), -5000), 5000))
    if a.is_float or b.is_float:
        return _float_arithmetic(op, a, b, mode)
    if "real" in (a.kind, b.kind):
        return Value("real", 0, {"+": number(a) + number(b), "*": number(a) * number(b)}[op])
    kind, width = _promote(a, b)
    if op in ("<<", ">>"):
        kind, width = ("i" if a.kind == "i" else "u"), max(a.width, 32)
        return make(kind, width, a.integer << b.integer if op == "<<" else a.integer >> b.integer)
    x, y = a.integer, b.integer
    if kind == "u":  # a signed operand beside an unsigned one counts modulo 2^width
        x, y = x & ((1 << width) - 1), y & ((1 << width) - 1)
    operations = {
        "+": lambda: x + y,
        "-": lambda: x - y,
        "*": lambda: x * y,
        "&": lambda: x & y,
        "|": lambda: x | y,
        "^": lambda: x ^ y,
        "%": lambda: x % y,
    }
    return make(kind, width, operations[op]())


def unary(op: str, v: Value) -> Value:
    if op == "!":
        return boolean(not v.truth)
    if op == "+":
        return v
    if op == "-":
        if v.kind == "real":
            return Value("real", 0, -v.bits)
        return Value(v.kind, v.width, v.bits ^ 1 << (v.width - 1)) if v.is_float else make(v.kind, v.width, -v.integer)
    if op == "~":
        return make(v.kind, v.width, ~v.bits)
    raise NotImplementedError(op)
