"""AITER's kernels that are instantiated by a text template: the few forms of Jinja that it uses there, filled in with plain values.

Whatever else a template may hold is refused by name: it is not run. A source that is made of one is named by it and its values,
``pa_v1{"block_size":16,...}``, and compiled as any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.core.text import one_line

Value = str | int | bool
_TAG = re.compile(r"(\{\{.*?\}\}|\{%.*?%\})", re.DOTALL)
_CHOICE = re.compile(r'"([^"]*)" if (\w+) else "([^"]*)"')
_CONDITION = re.compile(r"if (\w+)(?: == '([^']*)')?")
#: the function of a template is a C function, whose name says nothing of its parameters; of C++ it is the same one.
_C, _CPP = 'extern "C"', 'extern "C++"'


def named(template: str, values: Mapping[str, Value]) -> str:
    """The name of a source that is a template with values."""
    return template + json.dumps(dict(values), sort_keys=True, separators=(",", ":"))


def parts(name: str) -> tuple[str, dict[str, Value]]:
    """(the name before the values, the values) of a source; no values for one that is no template."""
    base, bracket, rest = name.partition("{")
    return base, json.loads(bracket + rest) if bracket else {}


def rendered(text: str, values: Mapping[str, Value], where: str) -> str:
    """The text that a template stands for, its function one of C++. KernelBuildError names what is not understood."""
    out: list[str] = []
    taken: list[bool] = []  # of each `if` around here, whether this part of it is

    def value(name: str) -> Value:
        if name not in values:
            raise KernelBuildError(f"AITER's template {where} wants a value {name!r}, which this call has none of")
        return values[name]

    for piece in _TAG.split(text):
        inner = piece[2:-2].strip()
        if piece.startswith("{{"):
            choice = _CHOICE.fullmatch(inner)
            found = choice[1] if choice and value(choice[2]) else choice[3] if choice else value(inner)
            out += [str(found)] if all(taken) else []
        elif not piece.startswith("{%"):
            out += [piece] if all(taken) else []
        elif condition := _CONDITION.fullmatch(inner):
            given = value(condition[1])
            taken.append(bool(given) if condition[2] is None else given == condition[2])
        elif inner == "else" and taken:
            taken[-1] = not taken[-1]
        elif inner == "endif" and taken:
            taken.pop()
        else:
            raise KernelBuildError(f"AITER's template {where} has {one_line(piece)}, which is not understood")
    if taken:
        raise KernelBuildError(f"AITER's template {where} ends within an if")
    return "".join(out).replace(_C, _CPP)
