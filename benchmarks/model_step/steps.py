"""The two programs: one more byte for every sequence of a batch; one step of Adam."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.model_step.forms import Way
from examples.moe_lm import cache as paged
from examples.moe_lm import model
from examples.moe_lm.model import Config, Params

BALANCE = 0.01  # as examples/moe_lm trains
RATE, BETA1, BETA2, SMALL = 1e-4, 0.9, 0.95, 1e-8
BLOCK = 16


def decoding(way: Way, config: Config) -> Any:
    """``(params, state) -> (state, logits)``, jitted; the state (cache, history, context lengths, block tables) is donated, so that
    every step finds its buffers where the last one left them. Each step writes the last position again: all are of one length.
    """

    def step(params: Params, state: Any) -> Any:
        cache, history, lens, tables = state
        sampled, logits, cache = way.decoded(params, cache, history, lens, tables, config)
        return (cache, jnp.concatenate([sampled[:, None], history[:, :-1]], axis=1), lens, tables), logits

    return jax.jit(step, donate_argnums=1)


def decoding_state(config: Config, batch: int, dtype: Any) -> Any:
    """Full contexts of random keys and values in scattered blocks."""
    blocks = batch * config.sequence // BLOCK
    key = jax.random.key(1)
    empty = paged.make(config, blocks, BLOCK, dtype)
    cache = [
        tuple(jax.random.normal(jax.random.fold_in(key, 2 * i + j), x.shape, dtype) for j, x in enumerate(pair))
        for i, pair in enumerate(empty)
    ]
    tables = jax.random.permutation(key, blocks).reshape(batch, -1).astype(jnp.int32)
    history = jax.random.randint(key, (batch, config.context_bytes), 0, 256, jnp.int32)
    return cache, history, jnp.full(batch, config.sequence, jnp.int32), tables


def training(way: Way, config: Config, dtype: Any) -> Any:
    """``(state, tokens [B, S + 1]) -> (state, bits per byte)``, jitted, the state (parameters and two moments, float32, and the
    step's number) donated."""

    def loss(params: Params, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, balance = way.sequences(model.cast(params, dtype), config, tokens[:, :-1])
        bits = jnp.mean(model.bits(logits, tokens[:, 1:]))
        return bits + BALANCE * balance, bits

    def step(state: Any, tokens: jax.Array) -> Any:
        params, first, second, number = state
        (_, bits), gradient = jax.value_and_grad(loss, has_aux=True)(params, tokens)
        number = number + 1
        first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradient)
        second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, gradient)
        fix1, fix2 = 1 - BETA1**number, 1 - BETA2**number
        new = jax.tree.map(lambda p, m, v: p - RATE * (m / fix1) / (jnp.sqrt(v / fix2) + SMALL), params, first, second)
        return (new, first, second, number), bits

    return jax.jit(step, donate_argnums=0)


def training_state(params: Params) -> Any:
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
    return params, zeros(), zeros(), jnp.float32(0)
