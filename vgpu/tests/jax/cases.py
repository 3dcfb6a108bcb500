"""The calls that the virtual device must answer as JAX's CPU backend does.

A case is a function of arrays. `ulps` bounds the difference from the CPU backend in units in the last place of the
result: 0 where both must be exact (data movement, integers, correctly rounded arithmetic), otherwise the sum of what
the two implementations may be off. Transcendental functions of AMD's device library keep OpenCL's limits (2 to 5
ulps for most, 16 for pow), XLA's CPU versions similar ones. `scale` is the magnitude of the terms where a result may
cancel: the bound is then `ulps` of that magnitude.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

CASES: dict[str, Case] = {}


@dataclass(frozen=True)
class Case:
    name: str
    function: Callable[..., Any]
    arguments: tuple[np.ndarray, ...]
    ulps: float
    scale: float


def case(name: str, function: Callable[..., Any], *arguments: np.ndarray, ulps: float = 0, scale: float = 0) -> None:
    assert name not in CASES, name
    CASES[name] = Case(name, function, arguments, ulps, scale)


def floats(shape: tuple[int, ...] | int, low: float = -4, high: float = 4, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).uniform(low, high, shape)
    return values.astype(np.float32).astype(dtype)


def integers(shape: tuple[int, ...] | int, low: int = -1000, high: int = 1000, dtype: Any = np.int32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def load() -> dict[str, Case]:
    """Imports the modules that define the cases."""
    import elementwise_cases  # noqa: F401
    import matrix_cases  # noqa: F401
    import program_cases  # noqa: F401
    import shape_cases  # noqa: F401

    return CASES
