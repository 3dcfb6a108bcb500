"""The decoder: embedding, layers, head. One definition for whole sequences and for new tokens over a paged cache."""

from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter
from examples.layers.parts import Batch
from examples.llm import attention, mla
from examples.llm.config import Config, Layer, Mlp, Norms
from examples.llm.linear import Linear, linear
from examples.llm.mlp import mlp
from examples.llm.moe import balance, moe
from examples.llm.rope import Tables

Params = dict[str, Any]


def embed(params: Params, config: Config, tokens: jax.Array) -> jax.Array:
    """int32 ``[...]`` to ``[..., M]``."""
    x = params["embed"][tokens]
    return x if config.embed_scale == 1.0 else x * jnp.asarray(config.embed_scale, x.dtype)


def layer(
    p: Params, described: Layer, norms: Norms, delta: jax.Array, x: jax.Array, positions: jax.Array, ropes: Tables,
    batch: Batch | None, cache: Any,
) -> tuple[jax.Array, jax.Array, Any]:  # fmt: skip
    """What the layer adds, the stream it is added to, and the cache; `delta` is what the layer before adds.

    Of whole sequences, which have no cache, the last is how evenly the experts share them (`moe.balance`), None without experts.
    """
    h, x = jax_aiter.rms_norm_with_add(delta, x, p["attention_norm"], norms.epsilon, weight_offset=norms.offset)
    attend = attention.attention if not hasattr(described.attention, "rank") else mla.attention
    h, cache = attend(p["attention"], described.attention, norms, h, positions, ropes, batch, cache)  # type: ignore[arg-type]
    h = _after(p, "post_attention_norm", norms, h)
    h, x = jax_aiter.rms_norm_with_add(h, x, p["mlp_norm"], norms.epsilon, weight_offset=norms.offset)
    m = described.mlp
    if isinstance(m, Mlp):
        h = mlp(p["mlp"], m, h)
    else:
        h, chosen = moe(p["mlp"], m, h)
        cache = balance(*chosen, h.shape[0]) if batch is None else cache
    return _after(p, "post_mlp_norm", norms, h), x, cache


def _after(p: Params, name: str, norms: Norms, h: jax.Array) -> jax.Array:
    return jax_aiter.rms_norm(h, p[name], norms.epsilon, weight_offset=norms.offset) if norms.post else h


def head(norm: jax.Array, weight: Linear, norms: Norms, cap: float, delta: jax.Array, x: jax.Array) -> jax.Array:
    """Logits float32 ``[..., V]`` of the stream and what the last layer adds."""
    h, _ = jax_aiter.rms_norm_with_add(delta, x, norm, norms.epsilon, weight_offset=norms.offset)
    logits = linear(h, weight, out_dtype=jnp.float32)
    return logits if not cap else cap * jnp.tanh(logits / cap)


def forward(params: Params, config: Config, tokens: jax.Array) -> jax.Array:
    """Logits float32 ``[B, S, V]`` of whole sequences int32 ``[B, S]``, without a cache."""
    return forward_balanced(params, config, tokens)[0]


def forward_balanced(params: Params, config: Config, tokens: jax.Array, *, remat: bool = False) -> tuple[jax.Array, jax.Array]:
    """The same, and float32 ``[B]``, the mean of the mixtures' `moe.balance`. remat: layers run again for their gradient."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
    x = embed(params, config, tokens)
    delta, balances = jnp.zeros_like(x), []
    for p, described in zip(params["layers"], config.layers, strict=True):

        def run(p: Params, delta: jax.Array, x: jax.Array, ropes: Tables, described: Layer = described):
            return LAYER(p, described, config.norms, delta, x, positions, ropes, None, None)

        delta, x, balanced = (jax.checkpoint(run) if remat else run)(p, delta, x, params["rope"])
        balances += [] if balanced is None else [balanced]
    logits = HEAD(params["norm"], params["head"], config.norms, config.logit_cap, delta, x)
    return logits, sum(balances, jnp.zeros(tokens.shape[0])) / max(1, len(balances))


def step(params: Params, config: Config, tokens: jax.Array, batch: Batch, caches: list[Any], rows: jax.Array):
    """``(logits [R, V], caches)``: new tokens int32 ``[T]`` of the sequences of `batch`, and the logits of `rows` of them.

    Give the caches away: they are updated in place. Rows that belong to no sequence (slots of -1) change nothing.
    """
    x = embed(params, config, tokens)
    delta, new = jnp.zeros_like(x), []
    for p, described, cache in zip(params["layers"], config.layers, caches, strict=True):
        delta, x, cache = LAYER(p, described, config.norms, delta, x, batch.positions, params["rope"], batch, cache)
        new.append(cache)
    return HEAD(params["norm"], params["head"], config.norms, config.logit_cap, delta[rows], x[rows]), new


# Layers of one kind share one program: a model of 60 layers compiles as fast as one of 2, and reads its weights where they are,
# which a scan over stacked ones does not on every backend. Under an outer `jax.jit` all of it becomes one program.
LAYER = jax.jit(layer, static_argnums=(1, 2), donate_argnums=(3, 4, 8))
HEAD = jax.jit(head, static_argnums=(2, 3))
