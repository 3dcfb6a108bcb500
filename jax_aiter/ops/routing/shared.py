"""Shared experts as slots of a routing: every token takes them, with the numbers that follow those of the routed experts.

fused_moe then computes them with the others, from weights of which theirs are the last.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic


def split(op: str, gating: Any, shared: int) -> tuple[Any, Any]:
    """The columns of the routed experts and those of the shared ones, which are the last."""
    if getattr(gating, "ndim", None) != 2:
        return gating, None  # for the record to refuse
    columns = gating.shape[1]
    rule = f"{op}: num_shared_experts is {shared}, must be < dimension 1 of gating_output, {columns} (routed and shared experts)"
    symbolic.below(shared, columns, rule)
    return gating[:, : columns - shared], gating[:, columns - shared :]


def append(weights: jax.Array, ids: jax.Array, experts: int, shared_weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weights and ids ``[T, k]`` with those of the shared experts behind: `shared_weights` float32 ``[T, S]``."""
    numbers = experts + jnp.arange(shared_weights.shape[1], dtype=jnp.int32)
    own = jnp.broadcast_to(numbers[None], shared_weights.shape)
    return jnp.concatenate([weights, shared_weights], axis=1), jnp.concatenate([ids, own], axis=1)


def constant(weights: jax.Array, shared: int, score: float) -> jax.Array:
    """The same weight for every token and shared expert."""
    return jnp.full((weights.shape[0], shared), score, jnp.float32)
