"""Evaluates a parsed program over a store of named values."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from .arithmetic import binary, cast, reinterpret, unary
from .functions import FUNCTIONS
from .parser import parse
from .values import Value, infinity, is_nan, make, nan, number, sign

_TYPE = re.compile(r"(bf|fp|[uifb])(\d+)$")


class Break(Exception):
    pass


class Return(Exception):
    pass


def parse_type(text: str) -> tuple[str, int] | None:
    match = _TYPE.match(text)
    if not match:
        return None
    kind, width = match.group(1), int(match.group(2))
    # fp8/bf8 (and 6-, 4-bit) codes stay bit patterns; their conversions are library functions.
    return ("b" if kind == "fp" or (kind == "bf" and width < 16) else kind), width


class Interpreter:
    """`store` holds Values, lists of them (declared arrays), or objects with item access (VGPR, MEM)."""

    def __init__(self, store: dict[str, Any], mode: str = "even", functions: dict[str, Callable] | None = None):
        self.store = store
        self.mode = mode
        self.functions = FUNCTIONS if functions is None else functions

    def run(self, text: str) -> None:
        self.execute(parse(text))

    # ---- statements

    def execute(self, node: tuple) -> None:
        getattr(self, "do_" + node[0])(*node[1:])

    def do_block(self, body: list) -> None:
        for statement in body:
            self.execute(statement)

    def do_if(self, arms: list, otherwise: tuple) -> None:
        for condition, body in arms:
            if self.evaluate(condition).truth:
                return self.execute(body)
        return self.execute(otherwise)

    def do_for(self, name: str, first: tuple, last: tuple, body: tuple) -> None:
        for i in range(self.evaluate(first).integer, self.evaluate(last).integer + 1):
            self.store[name] = make("i", 32, i)
            try:
                self.execute(body)
            except Break:
                break

    def do_break(self) -> None:
        raise Break

    def do_return(self, node: tuple) -> None:
        self.store["return"] = self.evaluate(node)
        raise Return

    def do_declare(self, name: str, type_text: str, count: tuple | None) -> None:
        width, letter = type_text.split("'")
        value = make(letter.lower(), int(width), 0)
        if name in self.store:
            return  # an operand the caller supplies
        self.store[name] = value if count is None else [value] * self.evaluate(count).integer

    def do_assign(self, op: str, target: tuple, source: tuple) -> None:
        if source[0] == "lambda":
            # a copy: the table handed in is shared
            self.functions = {**self.functions, target[1]: self.closure(source[1], source[2])}
            return
        value = self.evaluate(source)
        if op != "=":
            value = binary(op[0], self.evaluate(target), value, self.mode)
        self.assign(target, value)

    def closure(self, names: list, body: tuple) -> Callable:
        def call(*args: Value) -> Value:
            inner = Interpreter({**self.store, **dict(zip(names, args, strict=True))}, self.mode, self.functions)
            with contextlib.suppress(Return):
                inner.execute(body)
            return inner.store["return"]

        return call

    # ---- assignment

    def assign(self, target: tuple, value: Value) -> None:
        kind = target[0]
        if kind == "member":
            found = parse_type(target[2])
            if found is None:
                self.store[target[1][1] + "." + target[2]] = value
                return
            self.assign(target[1], cast(*found, value, self.mode) if value.kind != "b" else reinterpret(*found, value))
        elif kind == "name":
            old = self.store.get(target[1])
            fixed = target[1] in ("D0", "SCC", "VCC", "EXEC", "M0", "S0")
            if fixed and isinstance(old, Value):
                value = make("b", old.width, value.bits)
            self.store[target[1]] = value
        elif kind == "concat":
            for part in reversed(target[1]):
                width = parse_type(part[2])[1]
                self.assign(part, make("u", width, value.bits))
                value = make("u", max(value.width - width, 1), value.bits >> width)
        elif kind == "index" and self.is_container(target[1]):
            self.container(target[1])[self.evaluate(target[2]).integer] = value
        else:
            base = target[1]
            low, width, flip = self.extent(target)
            old = self.bits_of(base, low + width)
            bits = value.bits
            if flip:
                bits = int(f"{bits & ((1 << width) - 1):0{width}b}"[::-1], 2)
            mask = ((1 << width) - 1) << low
            merged = (old.bits & ~mask) | ((bits << low) & mask)
            self.assign_raw(base, Value("b" if old.is_float else old.kind, old.width, merged))

    def assign_raw(self, base: tuple, value: Value) -> None:
        while base[0] == "member" and parse_type(base[2]):
            base = base[1]
        if base[0] == "name":
            self.store[base[1]] = value
        elif base[0] == "index" and self.is_container(base[1]):
            self.container(base[1])[self.evaluate(base[2]).integer] = value
        else:
            self.assign(base, value)

    def bits_of(self, base: tuple, at_least: int) -> Value:
        while base[0] == "member" and parse_type(base[2]):
            base = base[1]
        if base[0] == "name" and base[1] not in self.store:
            return make("b", max(at_least, 32), 0)
        old = self.evaluate(base)
        return old if old.width >= at_least else make(old.kind, at_least, old.bits)

    def extent(self, node: tuple) -> tuple[int, int, bool]:
        """Low bit, width, and whether the order is reversed, of a slice, part or index."""
        if node[0] == "index":
            return self.evaluate(node[2]).integer, 1, False
        first, second = self.evaluate(node[2]).integer, self.evaluate(node[3]).integer
        if node[0] == "part":
            return first, second, False
        return min(first, second), abs(first - second) + 1, first < second

    def is_container(self, node: tuple) -> bool:
        if node[0] == "name":
            return not isinstance(self.store.get(node[1], Value("b", 1, 0)), Value)
        return node[0] == "index" and self.is_container(node[1]) and not isinstance(self.evaluate(node), Value)

    def container(self, node: tuple) -> Any:
        return self.store[node[1]] if node[0] == "name" else self.container(node[1])[self.evaluate(node[2]).integer]

    # ---- expressions

    def evaluate(self, node: tuple) -> Value:
        return getattr(self, "get_" + node[0])(*node[1:])

    def get_int(self, kind: str, width: int, value: int) -> Value:
        return make(kind, width, value)

    def get_float(self, width: int, value: float) -> Value:
        from .values import round_to

        return round_to("f", width, Fraction(value))

    def get_name(self, name: str) -> Value:
        if name in self.store:
            return self.store[name]
        constants = {
            "INF": infinity("f", 64),
            "PI": Value("real", 0, Fraction(math.pi)),
            "UNDERFLOW_F32": make("f", 32, 0),
            "UNDERFLOW_F64": make("f", 64, 0),
            "OVERFLOW_F32": infinity("f", 32),
            "OVERFLOW_F64": infinity("f", 64),
        }
        if name in constants:
            return constants[name]
        raise KeyError(f"pseudo-code reads {name}, which nothing set")

    def get_member(self, base: tuple, name: str) -> Value:
        found = parse_type(name)
        if found is None:
            return self.store[base[1] + "." + name]
        if base[0] == "name" and base[1] in ("INF", "NAN"):
            return infinity(*found) if base[1] == "INF" else nan(*found)
        if base[0] == "unary" and base[2] == ("name", "INF"):
            return infinity(*found, base[1] == "-")
        return reinterpret(*found, self.evaluate(base))

    def get_index(self, base: tuple, index: tuple) -> Value:
        if self.is_container(base):
            return self.container(base)[self.evaluate(index).integer]
        return make("u", 1, self.evaluate(base).bits >> self.evaluate(index).integer)

    def get_slice(self, base: tuple, first: tuple, second: tuple) -> Value:
        low, width, flip = self.extent(("slice", base, first, second))
        bits = (self.evaluate(base).bits >> low) & ((1 << width) - 1)
        return make("u", width, int(f"{bits:0{width}b}"[::-1], 2) if flip else bits)

    def get_part(self, base: tuple, first: tuple, width: tuple) -> Value:
        return make("u", self.evaluate(width).integer, self.evaluate(base).bits >> self.evaluate(first).integer)

    def get_concat(self, parts: list) -> Value:
        bits = width = 0
        for part in parts:
            v = self.evaluate(part)
            bits, width = bits << v.width | v.bits, width + v.width
        return make("b", width, bits)

    def get_cast(self, text: str, node: tuple) -> Value:
        width, letter = text.split("'")
        value = self.evaluate(node)
        if letter == "F" and node[0] == "int":  # 32'F(0xffc00000) means those bits
            value = make("b", int(width), value.bits)
        return cast(letter.lower(), int(width), value, self.mode)

    def get_ternary(self, condition: tuple, yes: tuple, no: tuple) -> Value:
        return self.evaluate(yes if self.evaluate(condition).truth else no)

    def get_unary(self, op: str, node: tuple) -> Value:
        return unary(op, self.evaluate(node))

    def get_binary(self, op: str, left: tuple, right: tuple) -> Value:
        if op in ("==", "!=") and self.is_signed_zero(right):
            return self.compare_zero(op, self.evaluate(left), right)
        a = self.evaluate(left)
        if op == "&&":
            return self.evaluate(right) if a.truth else a
        if op == "||":
            return a if a.truth else self.evaluate(right)
        return binary(op, a, self.evaluate(right), self.mode)

    # `x == -0.0` beside `x == +0.0` distinguishes the zeros in these documents; a bare 0.0 does not.
    @staticmethod
    def is_signed_zero(node: tuple) -> bool:
        return node[0] == "unary" and node[2][0] == "float" and node[2][2] == 0.0

    def compare_zero(self, op: str, v: Value, zero: tuple) -> Value:
        same = not is_nan(v) and number(v) == 0 and bool(sign(v)) == (zero[1] == "-")
        return make("u", 1, int(same == (op == "==")))

    def get_call(self, name: str, args: list) -> Value:
        values = [self.evaluate(a) for a in args]
        if name in self.functions:
            return self.functions[name](*values)
        if name.startswith("v_"):
            return self.instruction(name, values)
        raise KeyError(f"pseudo-code calls {name}, which is not defined")

    def instruction(self, name: str, values: list[Value]) -> Value:
        """Another instruction used as a function, as in v_min3 = v_min(v_min(a, b), c)."""
        from .source import load

        inner = Interpreter({f"S{i}": v for i, v in enumerate(values)}, self.mode, self.functions)
        inner.store["D0"] = make("b", 64, 0)
        inner.store["WAVE_MODE.IEEE"] = self.store.get("WAVE_MODE.IEEE", make("u", 1, 1))
        inner.run(load()[name])
        kind, width = values[0].kind, values[0].width
        if not values[0].is_float and kind in ("b", "u") and width < 32:
            width = 32
        return reinterpret(kind, max(width, 16), inner.store["D0"])
