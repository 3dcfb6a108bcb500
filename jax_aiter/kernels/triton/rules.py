"""Refusal rules shared by the op families. Each returns None or the reason, naming the argument, its value, the rule."""

from __future__ import annotations

from jax_aiter.kernels.spec import ArraySpec, CallSpec

HALF = ("bfloat16", "float16")
FLOAT = ("bfloat16", "float16", "float32")
INT32_MAX = 2**31 - 1
#: programs of a grid's dimension other than the first, on NVIDIA
GRID = 65535


def dtype_in(spec: CallSpec, operand: str, allowed: tuple[str, ...]) -> str | None:
    if not spec.has(operand) or spec[operand].dtype in allowed:
        return None
    return f"{operand} has dtype {spec[operand].dtype}; AITER's Triton kernel takes {', '.join(allowed)}"


def absent(spec: CallSpec, *operands: str) -> str | None:
    """AITER's kernel has no such argument."""
    for name in operands:
        if spec.has(name):
            return f"{name} is given; AITER's Triton kernel has no such argument"
    return None


def finds_scale(spec: CallSpec) -> bool:
    """Whether a call's scale is found by the kernel, as none is given."""
    return not spec.has("scale")


def param_is(spec: CallSpec, name: str, *allowed: object) -> str | None:
    value = spec.params.get(name)
    if value in allowed:
        return None
    choices = " or ".join(repr(a) for a in allowed)
    return f"{name} = {value!r}; AITER's Triton kernel supports {choices}"


def fits_int32(spec: CallSpec, *operands: str) -> str | None:
    """AITER's kernels index these arrays with 32-bit integers."""
    named: list[tuple[str, ArraySpec]] = [(name, spec[name]) for name in operands if spec.has(name)]
    named += [(f"result {i}", result) for i, result in enumerate(spec.results)]
    for name, array in named:
        if array.size > INT32_MAX:
            return f"{name} has {array.size} elements; AITER's Triton kernel indexes with 32 bits"
    return None


#: one program holds a whole row in registers; beyond this Triton's tensors get too large.
MAX_ROW = 65536


def grid(spec: CallSpec, what: str, programs: int) -> str | None:
    """A dimension of the grid other than the first has a program for each."""
    if programs <= GRID or not spec.arch.startswith("sm_"):
        return None
    return f"{what} are {programs}; AITER's Triton kernel has a grid dimension for them, at most {GRID} on {spec.arch}"


def power_of_two(what: str, size: int) -> str | None:
    return f"{what} is {size}; AITER's Triton kernel needs a power of two" if size & (size - 1) else None


def row_fits(columns: int, what: str) -> str | None:
    """For kernels that keep a row in registers."""
    if columns <= MAX_ROW:
        return None
    return f"{what} has rows of {columns} elements; AITER's Triton kernel keeps a row in registers, at most {MAX_ROW}"


def next_power_of_2(n: int) -> int:
    """The sizes that Triton's tensors have."""
    return 1 << (n - 1).bit_length()


def dividing(block: int, columns: int) -> int:
    """The largest part of a block, by halves, that divides the columns: for kernels that read a last block whole."""
    while columns % block:
        block //= 2
    return block


def first(*reasons: str | None) -> str | None:
    """The first reason there is."""
    return next((reason for reason in reasons if reason), None)
