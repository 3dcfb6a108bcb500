"""Named calls of an op: the transform suite, the docs and the benchmarks all draw their inputs from here."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Array:
    """An operand to be drawn: ``fill(rng, shape)`` gives a numpy array, which is then cast."""

    shape: tuple[int, ...]
    dtype: Any
    fill: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

    def draw(self, rng: np.random.Generator) -> jax.Array:
        # Cast by numpy: XLA would compile a program for every shape and pair of dtypes.
        return jnp.asarray(np.asarray(self.fill(rng, self.shape)).astype(jnp.dtype(self.dtype)))

    @property
    def struct(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, jnp.dtype(self.dtype))


def normal(*shape: int, dtype: Any = jnp.float32, std: float = 1.0) -> Array:
    return Array(shape, dtype, lambda rng, s: (rng.standard_normal(s) * std).astype(np.float32))


def uniform(*shape: int, dtype: Any = jnp.float32, low: float = 0.0, high: float = 1.0) -> Array:
    return Array(shape, dtype, lambda rng, s: rng.uniform(low, high, s).astype(np.float32))


def integers(*shape: int, low: int, high: int, dtype: Any = jnp.int32) -> Array:
    """Uniform in [low, high)."""
    return Array(shape, dtype, lambda rng, s: rng.integers(low, high, s))


def constant(value: Any, dtype: Any) -> Array:
    value = np.asarray(value)
    return Array(value.shape, dtype, lambda rng, s: value)


def distinct(rows: int, k: int, among: int) -> Array:
    """int32[rows, k], each row k different numbers below `among` (top-k expert ids)."""
    return Array((rows, k), jnp.int32, lambda rng, s: np.argsort(rng.random((s[0], among)), axis=1)[:, : s[1]])


def permutation(*shape: int, among: int) -> Array:
    """int32, all entries different and below `among` (block tables, slots)."""
    return Array(shape, jnp.int32, lambda rng, s: rng.permutation(among)[: int(np.prod(s))].reshape(s))


@dataclasses.dataclass(frozen=True)
class Case:
    """One call. `operands` by name (absent ones left out), `params` as the op's record takes them."""

    name: str
    operands: Mapping[str, Array]
    params: Mapping[str, Any]

    def draw(self, seed: int = 0) -> dict[str, jax.Array]:
        rng = np.random.default_rng(seed)
        return {name: array.draw(rng) for name, array in self.operands.items()}


def case(name: str, **fields: Any) -> Case:
    operands = {k: v for k, v in fields.items() if isinstance(v, Array)}
    return Case(name, operands, {k: v for k, v in fields.items() if k not in operands})
