"""The two jitted steps of serving: take in a prompt; one more byte for every running sequence. Both update the cache in place."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter
from examples.moe_lm import cache as paged
from examples.moe_lm import model
from examples.moe_lm.cache import Cache
from examples.moe_lm.model import Config, Params


@functools.partial(jax.jit, static_argnames=("config",), donate_argnames=("cache",))
def prefill(
    params: Params, cache: Cache, tokens: jax.Array, slots: jax.Array, last: jax.Array, *, config: Config
) -> tuple[jax.Array, Cache]:
    """Run a prompt int32 [S] (padded on the right) and store its keys and values at `slots` [S], -1 for padding.

    Returns the logits [256] after position `last`. Padding comes after the prompt, so the causal mask keeps it out.
    """
    updated: Cache = []

    def attend(layer: int, q: jax.Array, k: jax.Array, v: jax.Array, places: model.Places) -> jax.Array:
        q, k, *pools = jax_aiter.rope_and_cache(q, k, v, *cache[layer], slots, *places, kv_layout=config.kv_layout)
        updated.append((pools[0], pools[1]))
        return jax_aiter.flash_attention(q[None], k[None], v[None], causal=True, scale=config.scale)[0]

    history = model.history_of(tokens[None], config.context_bytes)[0]
    logits, _ = model.forward(params, config, history, jnp.arange(len(tokens), dtype=jnp.int32), attend)
    return logits[last], updated


@functools.partial(jax.jit, static_argnames=("config",), donate_argnames=("cache",))
def decode(
    params: Params,
    cache: Cache,
    history: jax.Array,
    context_lens: jax.Array,
    block_tables: jax.Array,
    key: jax.Array,
    temperature: jax.Array,
    *,
    config: Config,
) -> tuple[jax.Array, jax.Array, Cache]:
    """One byte for each of B places, of which those with context length 0 are empty.

    history: int32 [B, context_bytes], newest first. context_lens: int32 [B], the newest byte included. block_tables: int32 [B, M].
    Returns the sampled next bytes int32 [B], logits float32 [B, 256] and the cache.
    """
    updated: Cache = []
    positions = jnp.maximum(context_lens - 1, 0)
    block_size = paged.block_size(cache, config.kv_layout)
    block = jnp.take_along_axis(block_tables, positions[:, None] // block_size, axis=1)[:, 0]
    slots = jnp.where(context_lens > 0, block * block_size + positions % block_size, -1)

    def attend(layer: int, q: jax.Array, k: jax.Array, v: jax.Array, places: model.Places) -> jax.Array:
        q, _, *pools = jax_aiter.rope_and_cache(q, k, v, *cache[layer], slots, *places, kv_layout=config.kv_layout)
        updated.append((pools[0], pools[1]))
        layout = config.kv_layout
        return jax_aiter.paged_attention(q, *updated[layer], block_tables, context_lens, scale=config.scale, kv_layout=layout)

    logits, _ = model.forward(params, config, history, positions, attend)
    sampled = jax.random.categorical(key, logits / jnp.maximum(temperature, 1e-6)).astype(jnp.int32)
    return jnp.where(temperature > 0, sampled, jnp.argmax(logits, axis=-1).astype(jnp.int32)), logits, updated


def decode_error(params: Params, config: Config, tokens: Any, block_size: int = 16) -> tuple[float, float]:
    """Largest difference of logits between decoding through the paged cache and the full forward pass, and what is allowed.

    tokens: int32 [B, S]. The first half of each sequence goes in by `prefill`, the rest byte by byte by `decode`, its blocks
    scattered over the pool. In float32 both paths do the same sums in different orders. A sum of n terms may differ by n · 2^-24
    of its terms' magnitudes, n is at most max(sequence, dim, intermediate), and a layer chains about 8 such steps (two norms,
    qkv, scores, values, out, and the two GEMMs of an expert), so logits may differ by 8 · layers · n · 2^-24 of the largest one.
    """
    batch, length = tokens.shape
    full, _ = jax.jit(functools.partial(model.forward_sequences, config=config))(params, tokens=tokens)
    per_sequence = -(-length // block_size)
    pool = paged.make(config, batch * per_sequence, block_size, jnp.float32)
    tables = jax.random.permutation(jax.random.key(1), batch * per_sequence).reshape(batch, per_sequence).astype(jnp.int32)
    half, error = length // 2, 0.0
    for b in range(batch):
        position = jnp.arange(half)
        slots = (tables[b][position // block_size] * block_size + position % block_size).astype(jnp.int32)
        logits, pool = prefill(params, pool, tokens[b, :half], slots, jnp.int32(half - 1), config=config)
        error = max(error, float(jnp.max(jnp.abs(logits - full[b, half - 1]))))
    history = model.history_of(tokens, config.context_bytes)
    for at in range(half, length):
        lens = jnp.full(batch, at + 1, jnp.int32)
        _, logits, pool = decode(params, pool, history[:, at], lens, tables, jax.random.key(0), jnp.float32(0), config=config)
        error = max(error, float(jnp.max(jnp.abs(logits - full[:, at]))))
    return error, allowed_error(config, full)


def allowed_error(config: Config, logits: Any) -> float:
    """How far logits [..., 256] of two programs of the same sums may be apart: see `decode_error`."""
    terms = max(config.sequence, config.dim, config.intermediate)
    return 8 * config.layers * terms * 2.0**-24 * float(jnp.max(jnp.abs(logits)))
