"""Linear attention's prefill against what a JAX user writes of it: by chunks of 64 tokens, as transformers' Qwen3-Next has it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter
from jax_aiter.cli.bench.row import Call, Draw, Operands, Peer, Row

CHUNK = 64
F32 = jnp.float32


def _unit(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)


def _by_chunks(q: jax.Array, k: jax.Array, v: jax.Array, g: jax.Array, beta: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of ``[B, T, heads, size]``, T a multiple of the chunk: all chunks' systems at once, then the states in turn."""
    batch, tokens, heads, width = k.shape
    q, k, v = (x.swapaxes(1, 2).reshape(batch, heads, tokens // CHUNK, CHUNK, -1) for x in (q, k, v))
    g, beta = (x.swapaxes(1, 2).reshape(batch, heads, tokens // CHUNK, CHUNK) for x in (g, beta))
    total = jnp.cumsum(g, axis=-1)
    lower = jnp.tril(jnp.ones((CHUNK, CHUNK), bool))
    decay = jnp.exp(jnp.where(lower, total[..., :, None] - total[..., None, :], -jnp.inf))
    below = jnp.where(lower, jnp.einsum("...ik,...jk->...ij", k * beta[..., None], k) * decay, 0.0)
    below = jnp.tril(below, -1) + jnp.eye(CHUNK)
    right = jnp.concatenate([v, k * jnp.exp(total)[..., None]], axis=-1) * beta[..., None]
    solved = jax.scipy.linalg.solve_triangular(below, right, lower=True, unit_diagonal=True)
    u, w = solved[..., : v.shape[-1]], solved[..., v.shape[-1] :]
    scores = jnp.einsum("...ik,...jk->...ij", q, k) * decay

    def step(state: jax.Array, x: Any) -> tuple[jax.Array, jax.Array]:
        q, k, u, w, scores, total = x
        new = u - w @ state
        out = (q * jnp.exp(total)[..., None]) @ state + scores @ new
        last = total[..., -1:]
        return state * jnp.exp(last)[..., None] + (k * jnp.exp(last - total)[..., None]).swapaxes(-1, -2) @ new, out

    chunks = jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), (q, k, u, w, scores, total))
    final, out = jax.lax.scan(step, jnp.zeros((batch, heads, width, v.shape[-1]), F32), chunks)
    return jnp.moveaxis(out, 0, 2).reshape(batch, heads, tokens, -1).swapaxes(1, 2), final


def delta_rule(batch: int, tokens: int, heads: int, values: int, width: int) -> Row:
    """Keys and values of one width; `values` heads of values share `heads` of keys."""

    def draw() -> Operands:
        new = Draw()
        a = {name: new.normal(batch, tokens, heads, width) for name in ("q", "k")} | {"v": new.normal(batch, tokens, values, width)}
        gate = -0.1 * new.uniform(batch, tokens, values)
        return {**a, "g": gate, "beta": new.uniform(batch, tokens, values, low=0.1, high=0.9)}

    def ours(how: str | None) -> Call:
        kept = {"output_final_state": True, "use_qk_l2norm_in_kernel": True, "implementation": how}
        return lambda a: jax_aiter.chunk_gated_delta_rule(a["q"], a["k"], a["v"], a["g"], a["beta"], **kept)

    def theirs(a: Operands) -> Any:
        q, k = (jnp.repeat(_unit(a[name].astype(F32)), values // heads, axis=2) for name in ("q", "k"))
        out, final = _by_chunks(q * width**-0.5, k, a["v"].astype(F32), a["g"], a["beta"])
        return out.astype(a["v"].dtype), final

    moved = 2.0 * batch * tokens * width * (2 * heads + 2 * values) + 8.0 * batch * tokens * values
    work = 2.0 * batch * tokens * values * width * (3.0 * width + 2 * CHUNK)
    name = f"chunk_gated_delta_rule {batch}x{tokens}x{heads}/{values}x{width}"
    return Row(name, "chunk_gated_delta_rule", draw, ours, (Peer("jnp by chunks", theirs),), "v", moved, work)
