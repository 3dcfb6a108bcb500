"""The example's model (examples/moe_lm) as a JAX user writes it without this package: the same weights, the same numbers.

Only the order of the experts' weights is this form's own (`own`). Attention is `jax.nn`'s, over gathered pages when decoding; the
experts run as sort + `lax.ragged_dot`, or all of them for every token, or each with a number of places fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.model_step import parts
from benchmarks.model_step.parts import Form
from examples.moe_lm import model
from examples.moe_lm.cache import Cache
from examples.moe_lm.model import EPSILON, Config, Params


def own(params: Params, form: Form) -> Params:
    """The experts' weights as the form multiplies by them."""
    layers = [{n: w.swapaxes(1, 2) if n in form.swapped else w for n, w in layer.items()} for layer in params["layers"]]
    return {**params, "layers": layers}


def _mixture(x: jax.Array, p: Params, topk: int, form: Form) -> tuple[jax.Array, jax.Array]:
    y, ids, probabilities = parts.mixture(x, p, topk, form)
    experts = probabilities.shape[1]
    share = jnp.mean(jax.nn.one_hot(ids, experts), axis=(0, 1))
    return y, experts * jnp.sum(share * jnp.mean(probabilities, axis=0))


def forward(params: Params, config: Config, form: Form, history: jax.Array, positions: jax.Array, attend: Callable[..., jax.Array]):
    """Logits float32 [T, 256] and the load-balancing loss, as `model.forward`."""
    cos, sin = (table[positions][:, None] for table in model.rope_table(config, config.sequence))
    heads, kv, dh = config.heads, config.kv_heads, config.head_dim
    x = jnp.sum(jnp.stack([params["embed"][i][history[:, i]] for i in range(config.context_bytes)]), axis=0)
    delta, balance = jnp.zeros_like(x), jnp.float32(0)
    for layer, p in enumerate(params["layers"]):
        h, x = parts.added(delta, x, p["attention_norm"], EPSILON)
        qkv = (h @ p["qkv"].T).reshape(-1, heads + 2 * kv, dh)
        qk = parts.rotated(qkv[:, : heads + kv], cos, sin)
        attended = attend(layer, qk[:, :heads], qk[:, heads:], qkv[:, heads + kv :])
        h, x = parts.added(attended.reshape(-1, heads * dh) @ p["out"].T, x, p["moe_norm"], EPSILON)
        delta, balanced = _mixture(h, p, config.topk, form)
        balance += balanced / config.layers
    h, _ = parts.added(delta, x, params["norm"], EPSILON)
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
        out, pools = parts.over_pages(form, q, (k, v), cache[layer], slots, tables, context_lens)
        updated.append(pools)
        return out

    logits, _ = forward(params, config, form, history, positions, attend)
    return logits, updated
