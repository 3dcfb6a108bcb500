"""Qwen3-MoE: norms of each head of queries and keys, softmax routing."""

from typing import Any, NamedTuple

import jax

import jax_aiter
from examples.layers.parts import Batch, add_norm, attend, project, split_heads


class Weights(NamedTuple):
    """qkv: ``[(Hq + 2 Hk) D, M]``; q_norm, k_norm: ``[D]``; out: ``[M, Hq D]``; router: ``[E, M]``; w1, w2 as of `fused_moe`."""

    norm: jax.Array
    qkv: Any
    q_norm: jax.Array
    k_norm: jax.Array
    out: Any
    moe_norm: jax.Array
    router: jax.Array
    w1: jax.Array
    w2: jax.Array


def layer(
    p: Weights, x: jax.Array, residual: jax.Array, caches: Any, batch: Batch, tables: Any, *,
    heads: tuple[int, int], topk: int, renormalize: bool = True, epsilon: float = 1e-6, fused: bool, fp8: bool = False,
):  # fmt: skip
    """``(x, residual, caches)`` after the layer; `tables` are the cosines and sines of `rope_tables`."""
    (keys, values), (cos, sin) = caches, tables
    h, _, residual = add_norm(x, residual, p.norm, epsilon, fp8=fp8, fused=fused)
    q, k, v = split_heads(project(h, p.qkv), heads[0], heads[1], heads[1])
    if fused:
        q, _, keys, values = jax_aiter.fused_qk_norm_rope_cache(
            q, k, v, p.q_norm, p.k_norm, keys, values, batch.slots, batch.positions, cos, sin, epsilon=epsilon
        )
    else:
        q, k = jax_aiter.rms_norm(q, p.q_norm, epsilon), jax_aiter.rms_norm(k, p.k_norm, epsilon)
        q, k = (jax_aiter.rope(a, cos, sin, batch.positions) for a in (q, k))
        keys, values = jax_aiter.reshape_and_cache(k, v, keys, values, batch.slots)
    o = attend(q, keys, values, batch, scale=q.shape[-1] ** -0.5)
    o = o.reshape(o.shape[0], -1)
    x = jax_aiter.gemm_a16w16(o, p.out)
    h, _, residual = add_norm(x, residual, p.moe_norm, epsilon, fp8=False, fused=fused)
    weights, ids = jax_aiter.fused_topk(h, project(h, p.router, out_dtype="float32"), topk, renormalize=renormalize)
    return jax_aiter.fused_moe(h, p.w1, p.w2, weights, ids), residual, (keys, values)
