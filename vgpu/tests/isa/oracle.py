"""What an instruction should do to one lane, from its pseudo-code and the rules for modifiers around it."""

from __future__ import annotations

import functools
import re
from fractions import Fraction

from operand_types import result_type, source_type
from pcode.arithmetic import cast
from pcode.functions import FUNCTIONS, frexp_exponent, quieted
from pcode.interpreter import Interpreter
from pcode.source import load
from pcode.values import Value, infinity, is_inf, is_nan, make, number, round_to, sign

KIND = {"f16": ("f", 16), "bf16": ("bf", 16), "f32": ("f", 32), "f64": ("f", 64)}

# The f32 transcendental unit does not handle denormals whatever MODE says.
FLUSHING = {f"v_{n}_f32" for n in ("exp", "log", "rcp", "rsq", "sqrt", "rcp_iflag", "exp_legacy", "log_legacy")}
APPROXIMATE = (
    FLUSHING
    | {f"v_{n}_f16" for n in ("exp", "log", "rcp", "rsq", "sqrt", "sin", "cos")}
    | {"v_sin_f32", "v_cos_f32", "v_rcp_f64", "v_rsq_f64", "v_sqrt_f64"}
)
# Sums whose intermediate roundings the documents do not fix (fused or not): a bound instead of bits.
SUMS = {"v_dot2_f32_f16", "v_dot2c_f32_f16", "v_dot2_f32_bf16", "v_dot2c_f32_bf16"}


def turns(cosine: bool):
    """v_sin and v_cos take turns; the documented domain is 256 of them either way."""
    import math

    def apply(v: Value) -> Value:
        if is_nan(v) or is_inf(v):
            return Value(v.kind, v.width, (((1 << (v.format.exponent + 1)) - 1) << (v.format.mantissa - 1)))
        x = number(v)
        if abs(x) > 256:
            return round_to(v.kind, v.width, Fraction(int(cosine)))
        r = x - round(x)
        exact = math.cos(2 * math.pi * float(r)) if cosine else math.sin(2 * math.pi * float(r))
        if (cosine and abs(r) == Fraction(1, 4)) or (not cosine and abs(r) in (0, Fraction(1, 2))):
            exact = 0.0
        return round_to(v.kind, v.width, Fraction(exact), bool(sign(v)) and not cosine)

    return apply


# Where the documents' text is known to be wrong or silent, what is tested instead (the reasons are in src/sem).
REPLACED = {
    "v_sin_f32": "D0.f32 = turns_sin(S0.f32)",
    "v_cos_f32": "D0.f32 = turns_cos(S0.f32)",
    "v_sin_f16": "D0.f16 = turns_sin(S0.f16)",
    "v_cos_f16": "D0.f16 = turns_cos(S0.f16)",
    # the power of two alone would overflow f16
    "v_ldexp_f16": "D0.f16 = S0.f16 * 2.0F ** 32'I(S1.i16)",
    # x - floor(x), kept below one
    "v_fract_f32": "D0.f32 = fract_below_one(S0.f32)",
    "v_fract_f16": "D0.f16 = fract_below_one(S0.f16)",
    "v_fract_f64": "D0.f64 = fract_below_one(S0.f64)",
    # the true exponent, denormals included; 0 for 0
    "v_frexp_exp_i32_f32": "D0.i32 = true_exponent(S0.f32)",
    "v_frexp_exp_i32_f64": "D0.i32 = true_exponent(S0.f64)",
    "v_frexp_exp_i16_f16": "D0.i16 = true_exponent(S0.f16)",
    # floor(x + 0.5) before rounding to f32
    "v_cvt_rpi_i32_f32": "D0.i32 = f64_to_i32(floor(64'F(S0.f32) + 0.5))",
    # trunc, then the directed step, loses the sign of zero results that IEEE's functions keep
    **{f"v_{n}_{t}": f"D0.{t} = ieee_{n}(S0.{t})" for n in ("ceil", "floor", "rndne") for t in ("f16", "f32", "f64")},
    "v_exp_legacy_f32": "D0.f32 = pow(2.0F, S0.f32)",
    "v_log_legacy_f32": "D0.f32 = log2(S0.f32)",
    "v_cvt_off_f32_i4": "D0.f32 = 32'F(i4_to_i32(S0[3 : 0].i4)) * 0.0625F",
}


def _ieee(rounding):
    def apply(v: Value) -> Value:
        if is_nan(v) or is_inf(v):
            return v
        return round_to(v.kind, v.width, Fraction(rounding(number(v))), bool(sign(v)))

    return apply


def _fract(v: Value) -> Value:
    import math

    if is_nan(v) or is_inf(v):
        return Value(v.kind, v.width, (((1 << (v.format.exponent + 1)) - 1) << (v.format.mantissa - 1)))
    x = number(v)
    r = round_to(v.kind, v.width, x - math.floor(x))
    one = round_to(v.kind, v.width, Fraction(1))
    return Value(v.kind, v.width, one.bits - 1) if r.bits == one.bits else r


def _extra() -> dict:
    import math

    return {
        "turns_sin": turns(False),
        "turns_cos": turns(True),
        "fract_below_one": _fract,
        "true_exponent": lambda v: make("i", 32, 0 if is_nan(v) or is_inf(v) or number(v) == 0 else frexp_exponent(v)),
        "ieee_ceil": _ieee(math.ceil),
        "ieee_floor": _ieee(math.floor),
        "ieee_rndne": _ieee(round),
        "i4_to_i32": lambda v: make("i", 32, make("i", 4, v.bits).integer),
    }


def _ieee_extreme(maximum: bool):
    """minimum and maximum of IEEE 754-2019: NaN wins, -0 is below +0."""

    def apply(a: Value, b: Value) -> Value:
        for v in (a, b):
            if is_nan(v):
                return Value(v.kind, v.width, v.bits | 1 << (v.format.mantissa - 1))
        below = (number(a), -sign(a)) <= (number(b), -sign(b))
        return a if below != maximum else b

    return apply


def _of_three(two):
    return lambda a, b, c: two(two(a, b), c)


_FUNCTIONS = {
    **FUNCTIONS,
    **_extra(),
    "v_minimum_f32": _ieee_extreme(False),
    "v_maximum_f32": _ieee_extreme(True),
    "v_minimum3_f16": _of_three(_ieee_extreme(False)),
    "v_maximum3_f16": _of_three(_ieee_extreme(True)),
}
_TOWARD_ZERO = {**_FUNCTIONS, "f32_to_f16": lambda v: quieted(cast("f", 16, v, "zero"))}


@functools.cache
def program(base: str) -> str | None:
    if base == "v_div_fixup_legacy_f16":  # the same with the high half cleared; its own text mixes up its types
        base = "v_div_fixup_f16"
    return REPLACED.get(base) or load().get(base)


def flush(kind: str, bits: int) -> int:
    """Denormal to zero of the same sign."""
    v = Value(*KIND[kind], bits & ((1 << KIND[kind][1]) - 1))
    f = v.format
    exponent = (v.bits >> f.mantissa) & ((1 << f.exponent) - 1)
    return (v.bits if exponent else v.bits & (1 << (v.width - 1))) | (bits >> v.width << v.width)


def modify(kind: str, bits: int, absolute: bool, negate: bool) -> int:
    width = KIND.get(kind, ("", 32))[1]
    top = 1 << (width - 1)
    if absolute:
        bits &= ~top
    return bits ^ top if negate else bits


def output(kind: str, v: Value, omod: int, clamp: bool, dx10_clamp: bool) -> Value:
    """omod, then clamp."""
    if omod and not is_nan(v) and not is_inf(v):
        factor = {1: Fraction(2), 2: Fraction(4), 3: Fraction(1, 2)}[omod]
        v = round_to(v.kind, v.width, number(v) * factor, bool(sign(v)))
    if clamp:
        if is_nan(v):
            return Value(v.kind, v.width, 0) if dx10_clamp else v
        x = number(v)
        if x >= 1:
            return round_to(v.kind, v.width, Fraction(1))
        if x <= 0:
            return Value(v.kind, v.width, 0)
    return v


class Lane:
    """The result of one lane: `d` bits, and the masks' bit of this lane."""

    def __init__(self, d: int, vcc: int, sdst: int, store: dict):
        self.d, self.vcc, self.sdst, self.store = d, vcc, sdst, store


def run(
    base: str,
    sources: list[tuple[int, int]],
    old: tuple[int, int],
    lane: int = 0,
    *,
    mask: int = 0,
    ieee: bool = True,
    literal: int = 0,
    flush_inputs: bool = False,
    extra: dict | None = None,
) -> Lane:
    """`sources` and `old` are (bits, width). `mask` is VCC or the mask source, all 64 bits."""
    text = program(base)
    assert text is not None
    store: dict = {"laneId": make("u", 32, lane), "WAVE_MODE.IEEE": make("u", 1, int(ieee)), "SCC": make("b", 1, 0)}
    for i, (bits, width) in enumerate(sources):
        kind = source_type(text, i)
        if kind in KIND and (flush_inputs or base in FLUSHING):
            bits = flush(kind, bits)
        store[f"S{i}"] = make("b", width, bits)
    store["S"] = [store.get(f"S{i}", make("b", 32, 0)) for i in range(3)]
    store["D0"] = make("b", old[1], old[0])
    store["VCC"] = make("b", 64, mask)
    store["SIMM32"], store["SIMM16"] = make("b", 32, literal), make("b", 16, literal)
    store["ROUND_MODE"] = store["ROUND_NEAREST_EVEN"] = make("u", 2, 0)
    store["ROUND_TOWARD_ZERO"] = make("u", 2, 3)
    store["EXEC"] = make("b", 64, (1 << 64) - 1)
    store["OPSEL"], store["OPSEL_HI"] = make("b", 4, 0), make("b", 4, 7)
    store["SDWA_SRC0_SEL"] = make("b", 3, 0)
    store.update({f"{n}{i}": make("b", 3, i) for n in ("BYTE", "WORD") for i in range(4)})
    store.update(extra or {})
    compare = base.startswith("v_cmp")
    if compare:
        store["D0"] = make("b", 64, 0)
    Interpreter(store, functions=_TOWARD_ZERO if base == "v_cvt_pkrtz_f16_f32" else _FUNCTIONS).run(text)
    d = store["D0"].bits
    sdst = (d >> lane) & 1 if compare else (store["D1"].bits & 1 if "D1" in store else (store["VCC"].bits >> lane) & 1)
    result = result_type(text)
    if base in FLUSHING:
        d = flush(result, d)
    return Lane(d & ((1 << store["D0"].width) - 1), (store["VCC"].bits >> lane) & 1, sdst, store)


def float_of(kind: str, bits: int) -> Value:
    return Value(*KIND[kind], bits & ((1 << KIND[kind][1]) - 1))


def ulps_apart(kind: str, a: int, b: int) -> int:
    """Steps between two numbers of a format; 0 for two NaNs, huge for a NaN and a number."""
    x, y = float_of(kind, a), float_of(kind, b)
    if is_nan(x) or is_nan(y):
        return 0 if is_nan(x) and is_nan(y) else 1 << 62

    def place(v: Value) -> int:
        magnitude = v.bits & ~(1 << (v.width - 1))
        return -magnitude if sign(v) else magnitude

    return abs(place(x) - place(y))


__all__ = [
    "APPROXIMATE",
    "KIND",
    "SUMS",
    "float_of",
    "flush",
    "infinity",
    "modify",
    "output",
    "program",
    "re",
    "run",
    "ulps_apart",
]
