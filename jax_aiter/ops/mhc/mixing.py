"""Doubly stochastic matrices from logits."""

import jax
import jax.numpy as jnp


def sinkhorn(logits: jax.Array, eps: float, repeat: int) -> jax.Array:
    """float32 ``[..., n, n]``: rows and then columns over their sums, `repeat` times, the first of the rows a softmax."""
    comb = jax.nn.softmax(logits, axis=-1) + eps

    def step(_, comb):
        comb = comb / (jnp.sum(comb, axis=-1, keepdims=True) + eps)
        return comb / (jnp.sum(comb, axis=-2, keepdims=True) + eps)

    comb = comb / (jnp.sum(comb, axis=-2, keepdims=True) + eps)
    return jax.lax.fori_loop(0, repeat - 1, step, comb) if comb.size else comb
