"""Activations and their derivatives on float32, by the names that ops take them by."""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

Function = Callable[[jax.Array], jax.Array]


def silu(g: jax.Array) -> jax.Array:
    return g * jax.nn.sigmoid(g)


def silu_slope(g: jax.Array) -> jax.Array:
    s = jax.nn.sigmoid(g)
    return s * (1 + g * (1 - s))


def _cdf(g: jax.Array) -> jax.Array:
    # erfc, not 1 + erf: for negative arguments the sum cancels and loses the tail.
    return 0.5 * jax.lax.erfc(g * -math.sqrt(0.5))


def gelu(g: jax.Array) -> jax.Array:
    """The exact one, ``g/2 · (1 + erf(g/√2))``."""
    return g * _cdf(g)


def gelu_slope(g: jax.Array) -> jax.Array:
    return _cdf(g) + g * jnp.exp(-0.5 * g * g) * (1 / math.sqrt(2 * math.pi))


CUBIC = 0.044715


def _tanh_cdf(g: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``(1 + tanh u) / 2`` with ``u = √(2/π) (g + 0.044715 g³)``, and the slope of 2u."""
    # As a sigmoid of 2u, which does not cancel for negative u. It is 0 or 1 long before 30, and far beyond a cube overflows.
    near = jnp.clip(g, -30.0, 30.0)
    factor = 2 * math.sqrt(2 / math.pi)
    return jax.nn.sigmoid(factor * (near + CUBIC * near * near * near)), factor * (1 + 3 * CUBIC * near * near)


def gelu_tanh(g: jax.Array) -> jax.Array:
    """``g/2 · (1 + tanh(√(2/π) (g + 0.044715 g³)))``, up to 5e-4 from `gelu`."""
    return g * _tanh_cdf(g)[0]


def gelu_tanh_slope(g: jax.Array) -> jax.Array:
    s, slope = _tanh_cdf(g)
    return s + jnp.clip(g, -30.0, 30.0) * s * (1 - s) * slope


ACTIVATIONS: Mapping[str, Function] = {"silu": silu, "gelu": gelu, "gelu_tanh": gelu_tanh}
