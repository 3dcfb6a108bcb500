"""Grouped-query attention: over a paged cache, or of whole sequences without one."""

from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter
from examples.layers.parts import Batch, attend, split_heads
from examples.llm.config import Attention, Norms
from examples.llm.linear import linear
from examples.llm.rope import Tables


def attention(
    p: dict[str, Any],
    a: Attention,
    norms: Norms,
    x: jax.Array,
    positions: jax.Array,
    ropes: Tables,
    batch: Batch | None,
    cache: Any,
) -> tuple[jax.Array, Any]:
    """``[T, M]`` to ``[T, M]``, and the cache with the new tokens. x is ``[B, S, M]``, whole sequences, where `batch` is None."""
    q, k, v = split_heads(linear(x, p["qkv"]).reshape(-1, (a.heads + 2 * a.kv_heads) * a.head_dim), a.heads, a.kv_heads, a.kv_heads)
    q, k = _place(p, a, norms, q, k, positions.reshape(-1), ropes)
    if batch is None:
        q, k, v = (t.reshape(*x.shape[:2], *t.shape[1:]) for t in (q, k, v))
        window = None if a.window is None else (a.window - 1, -1)
        o = jax_aiter.flash_attention(
            q, k, v, causal=True, scale=a.scale, sliding_window=window, attention_chunk_size=a.chunk,
            logits_soft_cap=a.soft_cap, sinks=p.get("sinks"),
        )  # fmt: skip
    else:
        keys, values = cache
        keys, values = jax_aiter.reshape_and_cache(k, v, keys, values, batch.slots)
        o = attend(
            q, keys, values, batch, scale=a.scale, sliding_window=a.window, attention_chunk_size=a.chunk,
            logits_soft_cap=a.soft_cap, sinks=p.get("sinks"),
        )  # fmt: skip
        cache = keys, values
    return linear(o.reshape(*x.shape[:-1], -1), p["out"], axis=a.axis), cache


def _place(p, a: Attention, norms: Norms, q, k, positions, ropes: Tables):
    """Queries and keys with their norms, rotated to their positions."""
    if a.qk_norm == "weight":
        q, k = (jax_aiter.rms_norm(t, p[n], norms.epsilon, weight_offset=norms.offset) for t, n in ((q, "q_norm"), (k, "k_norm")))
    if a.rope is not None:
        q, k = jax_aiter.rope_2c(q, k, *ropes[a.rope], positions, rotate_style=a.rotate_style)
    if a.qk_norm == "after":
        q, k = (jax_aiter.rms_norm(t, jnp.ones(a.head_dim, t.dtype), norms.epsilon) for t in (q, k))
    if a.temperature is not None:
        floor, scale = a.temperature
        grown = jnp.log1p(jnp.floor((positions.astype(jnp.float32) + 1) / floor)) * scale + 1
        q = (q * grown[:, None, None]).astype(q.dtype)
    return q, k
