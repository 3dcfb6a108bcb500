"""Checks of static parameters: each raises TypeError or ValueError naming op, argument, value and rule."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core.text import shown

#: Sizes and counts beyond it have no place in a kernel's arguments, nor in the index types of JAX.
INT32_MAX = 2**31 - 1
FLOAT32_MAX = float(np.finfo(np.float32).max)


def choice(op: str, name: str, value: Any, allowed: Sequence[Any]) -> None:
    """`allowed` are of types whose values compare plainly, so arrays and the like are told apart by their type."""
    if not any(type(value) is type(a) and value == a for a in allowed):
        raise ValueError(f"{op}: {name} must be one of {list(allowed)}, got {shown(value)}")


def integer(op: str, name: str, value: Any, low: int, high: int = INT32_MAX) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{op}: {name} must be a static int, got {type(value).__name__} {shown(value)}")
    number = int(value)
    if not low <= number <= high:
        rule = f">= {low}" if number < low and high == INT32_MAX else f"in [{low}, {high}]"
        raise ValueError(f"{op}: {name} must be {rule}, got {shown(number)}")
    return number


def real(op: str, name: str, value: Any, *, low: float = -math.inf, open_low: bool = False) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{op}: {name} must be a static float, got {type(value).__name__} {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= FLOAT32_MAX or number < low or (open_low and number == low):
        bound = "" if low == -math.inf else f" {'>' if open_low else '>='} {low}"
        wide = " in float32" if abs(number) > FLOAT32_MAX else ""
        raise ValueError(
            f"{op}: {name} must be a finite number{bound}{wide}, got {shown(value if isinstance(value, int) else number)}"
        )
    return number


def boolean(op: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: {name} must be a static bool, got {type(value).__name__} {shown(value)}")
    return bool(value)


def multiple(op: str, name: str, value: int, of: int, why: str) -> None:
    if value % of:
        raise ValueError(f"{op}: {name} is {value}, must be a multiple of {of} ({why})")


def static_dtype(op: str, name: str, value: Any, allowed: Sequence[str]) -> np.dtype:
    try:
        if value is None or isinstance(value, (jax.Array, np.ndarray, np.generic)):  # numpy would take None for float64
            raise TypeError
        dtype = jnp.dtype(value)
    except Exception:  # numpy asks the value for its attributes and its repr, and those may raise anything
        raise TypeError(f"{op}: {name} must be a dtype ({' or '.join(allowed)}), got {shown(value)}") from None
    if dtype.name not in allowed:
        raise ValueError(f"{op}: {name} must be {' or '.join(allowed)}, got {dtype.name}")
    return dtype


def same_dtype(op: str, **dtypes: Any) -> None:
    (first, want), *rest = dtypes.items()
    for name, dtype in rest:
        if dtype != want:
            raise TypeError(f"{op}: {name} has dtype {jnp.dtype(dtype).name}, must be that of {first}, {jnp.dtype(want).name}")
