"""What the operands of an instruction hold, as far as test data and modifiers care, read off its pseudo-code."""

from __future__ import annotations

import functools
import re

_FLOAT = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}


@functools.cache
def source_type(text: str, index: int) -> str:
    """f16, bf16, f32, f64 or int: the type the pseudo-code reads S<index> as."""
    found = re.findall(rf"\bS{index}(?:\[[^\]]*\])?\.(b?f\d+)\b", text)
    if not found and re.search(r"\bS\[i\]", text):
        found = ["f32"]
    return found[0] if found and found[0] in _FLOAT else "int"


@functools.cache
def result_type(text: str) -> str:
    found = re.findall(r"\bD0(?:\[[^\]]*\])?\.(\w+) (?:=|\+=)", text) + re.findall(r"tmp(?:\[[^\]]*\])?\.(b?f\d+) =", text)
    return next((t for t in found if t in _FLOAT), "int")
