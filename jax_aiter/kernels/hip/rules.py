"""Refusal rules shared by the op families. Each returns None or the reason, naming the argument, its value, the rule."""

from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec

HALF = ("bfloat16", "float16")
FLOAT = (*HALF, "float32")
INT32_MAX = 2**31 - 1


def dtype_in(spec: CallSpec, operand: str, allowed: tuple[str, ...]) -> str | None:
    if not spec.has(operand) or spec[operand].dtype in allowed:
        return None
    return f"{operand} has dtype {spec[operand].dtype}; AITER's HIP kernel takes {', '.join(allowed)}"


def absent(spec: CallSpec, *operands: str) -> str | None:
    """AITER's kernel has no such argument."""
    for name in operands:
        if spec.has(name):
            return f"{name} is given; AITER's HIP kernel has no such argument"
    return None


def quantised(spec: CallSpec, *more: str) -> str | None:
    """The dtypes that AITER's quantising kernels write."""
    out = spec.results[0].dtype
    if out in (spec.fp8, *more):
        return None
    return f"quant_dtype = {out}; AITER's HIP kernel writes {' or '.join((spec.fp8, *more))} on {spec.arch}"


#: codes of a row that AITER's kernels store at a time: the last of a row would go into the next one, or past the array.
WORD = 4


def whole_words(spec: CallSpec, operand: str) -> str | None:
    columns = spec[operand].shape[-1]
    rule = f"AITER's HIP kernel stores {WORD} codes at a time, past the end of a row too"
    return f"{operand} has {columns} columns; {rule}" if columns % WORD else None


def fits_int32(spec: CallSpec, *operands: str) -> str | None:
    """AITER's host code counts these arrays' elements, or its kernels index them, with 32 bits."""
    for name in operands:
        if spec.has(name) and spec[name].size > INT32_MAX:
            return f"{name} has {spec[name].size} elements; AITER's HIP kernel counts them with 32 bits"
    return None


def first(*reasons: str | None) -> str | None:
    """The first reason there is."""
    return next((reason for reason in reasons if reason), None)
