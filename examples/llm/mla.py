"""Multi-head latent attention: absorbed over the paged latent cache, or expanded to keys and values of whole sequences."""

from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter
from examples.layers.parts import Batch, project_heads
from examples.llm.config import Latent, Norms
from examples.llm.linear import linear
from examples.llm.rope import Tables

EPSILON = 1e-6  # of the norms of the latents, whatever the configuration says of the others: as DeepSeek's code has it


def attention(
    p: dict[str, Any], a: Latent, norms: Norms, x: jax.Array, positions: jax.Array, ropes: Tables, batch: Batch | None, cache: Any
) -> tuple[jax.Array, Any]:
    """``[T, M]`` to ``[T, M]``, and the cache with the new tokens. x is ``[B, S, M]``, whole sequences, where `batch` is None."""
    del norms
    low = jax_aiter.rms_norm(linear(x, p["q_a"]), p["q_norm"], EPSILON) if "q_a" in p else x
    q = linear(low, p["q_b" if "q_a" in p else "q"])
    q = q.reshape(-1, a.heads, a.nope_dim + a.rope_dim)
    latent, k_pe = jnp.split(linear(x, p["kv_a"]).reshape(-1, a.rank + a.rope_dim), [a.rank], axis=-1)
    latent = jax_aiter.rms_norm(latent, p["kv_norm"], EPSILON)
    q, q_pe, k_pe = q[..., : a.nope_dim], q[..., a.nope_dim :], k_pe[:, None]
    if a.rope is not None:
        q_pe, k_pe = jax_aiter.rope_2c(q_pe, k_pe, *ropes[a.rope], positions.reshape(-1), rotate_style=a.rotate_style)
    if batch is None:
        o = _expanded(p, a, q, q_pe, latent, k_pe, *x.shape[:2])
    else:
        o, cache = _absorbed(p, a, q, q_pe, latent, k_pe, batch, cache)
    return linear(o.reshape(*x.shape[:-1], -1), p["out"], axis=a.axis), cache


def _expanded(p, a: Latent, q, q_pe, latent, k_pe, count: int, length: int) -> jax.Array:
    """Keys and values of every head, as the model was trained."""
    k = jnp.einsum("tl,hln->thn", latent, p["key_up"])
    v = jnp.einsum("tl,hvl->thv", latent, p["value_up"])
    k = jnp.concatenate([k, jnp.broadcast_to(k_pe, (*k.shape[:2], a.rope_dim))], axis=-1)
    q, k, v = (t.reshape(count, length, *t.shape[1:]) for t in (jnp.concatenate([q, q_pe], axis=-1), k, v))
    return jax_aiter.flash_attention(q, k, v, causal=True, scale=a.scale)


def _absorbed(p, a: Latent, q, q_pe, latent, k_pe, batch: Batch, cache) -> tuple[jax.Array, Any]:
    """Queries are brought to the latent's space, and what attention gives out of it: the cache is read as it is."""
    q = jnp.concatenate([project_heads(q, p["key_up"]), q_pe], axis=-1)
    cache = jax_aiter.concat_and_cache_mla(latent, k_pe[:, 0], cache, batch.slots)
    page = cache.shape[1]
    ends, pages = page_list(batch.tables, batch.context_lens, page)
    last = (batch.context_lens - 1) % page + 1
    o = jax_aiter.mla_decode_fwd(
        q, cache, batch.offsets, ends, pages, last, max_seqlen_qo=batch.longest, sm_scale=a.scale, v_head_dim=a.rank
    )
    return project_heads(o, p["value_up"]), cache


def page_list(block_tables: jax.Array, context_lens: jax.Array, page: int) -> tuple[jax.Array, jax.Array]:
    """A table ``[B, M]`` of blocks as the two flat lists that MLA takes: where each sequence's pages begin, and all pages."""
    rows, columns = block_tables.shape
    ends = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(-(-context_lens // page), dtype=jnp.int32)])
    at = jnp.arange(rows * columns, dtype=jnp.int32)
    row = jnp.clip(jnp.searchsorted(ends, at, side="right") - 1, 0, rows - 1)
    return ends, block_tables[row, jnp.clip(at - ends[row], 0, columns - 1)]
