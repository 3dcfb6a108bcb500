"""The example's model (examples/moe_lm) as a JAX user writes it without this package: the same weights, the same numbers.

Only the order of the experts' weights is this form's own (`own`). Attention is `jax.nn`'s, over gathered pages when decoding; the
experts run as sort + `lax.ragged_dot`, or all of them for every token, or each with a number of places fixed beforehand.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.peers import moe
from examples.moe_lm import model
from examples.moe_lm.cache import Cache
from examples.moe_lm.model import EPSILON, Config, Params

EXPERTS = ("ragged_dot", "dense", "padded")


@dataclasses.dataclass(frozen=True)
class Form:
    """`experts`: one of EXPERTS; places: of each expert, for "padded". attention: the implementation of `jax.nn`'s."""

    experts: str
    attention: str
    places: int = 0


def own(params: Params, form: Form) -> Params:
    """The experts' weights as the form multiplies by them."""
    swapped = ("w2",) if form.experts == "dense" else ("w1", "w2")
    layers = [{n: w.swapaxes(1, 2) if n in swapped else w for n, w in layer.items()} for layer in params["layers"]]
    return {**params, "layers": layers}


def _norm(x: jax.Array, weight: jax.Array, dtype: Any) -> jax.Array:
    return (x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + EPSILON) * weight.astype(jnp.float32)).astype(dtype)


def _added(delta: jax.Array, x: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    total = delta.astype(jnp.float32) + x.astype(jnp.float32)
    return _norm(total, weight, x.dtype), total.astype(x.dtype)


def _rotated(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def _mixture(x: jax.Array, p: Params, topk: int, form: Form) -> tuple[jax.Array, jax.Array]:
    logits = jnp.dot(x, p["router"].T, preferred_element_type=jnp.float32)
    probabilities = jax.nn.softmax(logits)
    weights, ids = jax.lax.top_k(probabilities, topk)
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    share = jnp.mean(jax.nn.one_hot(ids, logits.shape[1]), axis=(0, 1))
    balance = logits.shape[1] * jnp.sum(share * jnp.mean(probabilities, axis=0))
    run = {"ragged_dot": moe.ragged, "dense": moe.dense, "padded": functools.partial(moe.padded, rows=form.places)}[form.experts]
    operands = {"hidden_states": x, "w1": p["w1"], "w2": p["w2"], "topk_weight": weights, "topk_ids": ids}
    return run(operands), balance


def forward(params: Params, config: Config, form: Form, history: jax.Array, positions: jax.Array, attend: Callable[..., jax.Array]):
    """Logits float32 [T, 256] and the load-balancing loss, as `model.forward`."""
    cos, sin = (table[positions][:, None] for table in model.rope_table(config, config.sequence))
    heads, kv, dh = config.heads, config.kv_heads, config.head_dim
    x = jnp.sum(jnp.stack([params["embed"][i][history[:, i]] for i in range(config.context_bytes)]), axis=0)
    delta, balance = jnp.zeros_like(x), jnp.float32(0)
    for layer, p in enumerate(params["layers"]):
        h, x = _added(delta, x, p["attention_norm"])
        qkv = (h @ p["qkv"].T).reshape(-1, heads + 2 * kv, dh)
        qk = _rotated(qkv[:, : heads + kv], cos, sin)
        attended = attend(layer, qk[:, :heads], qk[:, heads:], qkv[:, heads + kv :])
        h, x = _added(attended.reshape(-1, heads * dh) @ p["out"].T, x, p["moe_norm"])
        delta, balanced = _mixture(h, p, config.topk, form)
        balance += balanced / config.layers
    h, _ = _added(delta, x, params["norm"])
    return jnp.dot(h, params["head"].T, preferred_element_type=jnp.float32), balance


def forward_sequences(params: Params, config: Config, form: Form, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `model.forward_sequences`."""
    batch, length = tokens.shape

    def attend(layer: int, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        q, k, v = (t.reshape(batch, length, *t.shape[1:]) for t in (q, k, v))
        return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=form.attention)  # type: ignore[arg-type]

    history = model.history_of(tokens, config.context_bytes).reshape(batch * length, -1)
    positions = jnp.tile(jnp.arange(length, dtype=jnp.int32), batch)
    logits, balance = forward(params, config, form, history, positions, attend)
    return logits.reshape(batch, length, 256), balance


def decode(
    params: Params, cache: Cache, history: jax.Array, context_lens: jax.Array, tables: jax.Array, config: Config, form: Form
):
    """Logits float32 [B, 256] after one more byte of each sequence, and the cache: layout "NHD", written in place where donated."""
    updated: Cache = []
    positions = context_lens - 1
    block_size = cache[0][0].shape[1]
    block = jnp.take_along_axis(tables, positions[:, None] // block_size, axis=1)[:, 0]
    slots = block * block_size + positions % block_size

    def attend(layer: int, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        pools = [
            pool.reshape(-1, *pool.shape[2:]).at[slots].set(new).reshape(pool.shape)
            for pool, new in zip(cache[layer], (k, v), strict=True)
        ]
        updated.append((pools[0], pools[1]))
        keys, values = (pool[tables].reshape(len(tables), -1, *pool.shape[2:]) for pool in pools)
        options: Any = {"key_value_seq_lengths": context_lens, "implementation": form.attention}
        return jax.nn.dot_product_attention(q[:, None], keys, values, **options)[:, 0]

    logits, _ = forward(params, config, form, history, positions, attend)
    return logits, updated
