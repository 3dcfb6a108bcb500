"""Checks of static parameters: each raises TypeError or ValueError naming op, argument, value and rule."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np


def choice(op: str, name: str, value: Any, allowed: Sequence[Any]) -> None:
    if not any(type(value) is type(a) and value == a for a in allowed):
        raise ValueError(f"{op}: {name} must be one of {list(allowed)}, got {value!r}")


def integer(op: str, name: str, value: Any, low: int, high: int | None = None) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{op}: {name} must be a static int, got {type(value).__name__} {value!r}")
    number = int(value)
    if number < low or (high is not None and number > high):
        raise ValueError(f"{op}: {name} must be {'>= ' + str(low) if high is None else f'in [{low}, {high}]'}, got {value}")
    return number


def real(op: str, name: str, value: Any, *, low: float = -math.inf, open_low: bool = False) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{op}: {name} must be a static float, got {type(value).__name__} {value!r}")
    value = float(value)
    if not math.isfinite(value) or value < low or (open_low and value == low):
        bound = "" if low == -math.inf else f" {'>' if open_low else '>='} {low}"
        raise ValueError(f"{op}: {name} must be a finite number{bound}, got {value}")
    return value


def boolean(op: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: {name} must be a static bool, got {type(value).__name__} {value!r}")
    return bool(value)


def multiple(op: str, name: str, value: int, of: int, why: str) -> None:
    if value % of:
        raise ValueError(f"{op}: {name} is {value}, must be a multiple of {of} ({why})")


def static_dtype(op: str, name: str, value: Any, allowed: Sequence[str]) -> np.dtype:
    try:
        dtype = jnp.dtype(value)
    except TypeError:
        raise TypeError(f"{op}: {name} must be a dtype ({' or '.join(allowed)}), got {value!r}") from None
    if dtype.name not in allowed:
        raise ValueError(f"{op}: {name} must be {' or '.join(allowed)}, got {dtype.name}")
    return dtype


def same_dtype(op: str, **dtypes: Any) -> None:
    (first, want), *rest = dtypes.items()
    for name, dtype in rest:
        if dtype != want:
            raise TypeError(f"{op}: {name} has dtype {jnp.dtype(dtype).name}, must be that of {first}, {jnp.dtype(want).name}")
