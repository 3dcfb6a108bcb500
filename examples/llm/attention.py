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
    q, k = _normed(p, a, norms, q, k)
    with_cache = None if batch is None or _changed_after(a) else a.rope  # rotated by the call that writes the cache
    if with_cache is None:
        q, k = _place(a, norms, q, k, positions.reshape(-1), ropes)
    if batch is None:
        q, k, v = (t.reshape(*x.shape[:2], *t.shape[1:]) for t in (q, k, v))
        window = None if a.window is None else (a.window - 1, -1)
        o = jax_aiter.flash_attention(
            q, k, v, causal=True, scale=a.scale, sliding_window=window, attention_chunk_size=a.chunk,
            logits_soft_cap=a.soft_cap, sinks=p.get("sinks"),
        )  # fmt: skip
    else:
        keys, values = cache
        if with_cache is not None:
            q, _, keys, values = jax_aiter.rope_and_cache(
                q, k, v, keys, values, batch.slots, positions.reshape(-1), *ropes[with_cache], rotate_style=a.rotate_style
            )
        else:
            keys, values = jax_aiter.reshape_and_cache(k, v, keys, values, batch.slots)
        o = attend(
            q, keys, values, batch, scale=a.scale, sliding_window=a.window, attention_chunk_size=a.chunk,
            logits_soft_cap=a.soft_cap, sinks=p.get("sinks"),
        )  # fmt: skip
        cache = keys, values
    return linear(o.reshape(*x.shape[:-1], -1), p["out"], axis=a.axis), cache


def _normed(p: dict[str, Any], a: Attention, norms: Norms, q: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Queries and keys as they are rotated."""
    if a.qk_norm != "weight":
        return q, k
    q, k = (jax_aiter.rms_norm(t, p[n], norms.epsilon, weight_offset=norms.offset) for t, n in ((q, "q_norm"), (k, "k_norm")))
    return q, k


def _changed_after(a: Attention) -> bool:
    """Whether rotated queries or keys are not yet what attention takes: then the cache is written by a call of its own."""
    return a.qk_norm == "after" or a.temperature is not None


def _place(
    a: Attention, norms: Norms, q: jax.Array, k: jax.Array, positions: jax.Array, ropes: Tables
) -> tuple[jax.Array, jax.Array]:
    """Queries and keys rotated to their positions, and what comes after."""
    if a.rope is not None:
        q, k = jax_aiter.rope_2c(q, k, *ropes[a.rope], positions, rotate_style=a.rotate_style)
    if a.qk_norm == "after":
        q, k = (jax_aiter.rms_norm(t, jnp.ones(a.head_dim, t.dtype), norms.epsilon) for t in (q, k))
    if a.temperature is not None:
        floor, scale = a.temperature
        grown = jnp.log1p(jnp.floor((positions.astype(jnp.float32) + 1) / floor)) * scale + 1
        q = (q * grown[:, None, None]).astype(q.dtype)
    return q, k
