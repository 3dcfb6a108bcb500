"""gpt-oss: attention sinks, a sliding window in every other layer, biases everywhere, clamped swiglu experts."""

from typing import Any, NamedTuple

import jax

import jax_aiter
from examples.layers.parts import Batch, add_norm, attend, project, split_heads


class Weights(NamedTuple):
    """qkv: ``[(Hq + 2 Hk) D, M]``; sinks: ``[Hq]``; out: ``[M, Hq D]``; router: ``[E, M]``; w1, w2, biases as of `fused_moe`."""

    norm: jax.Array
    qkv: jax.Array
    qkv_bias: jax.Array
    sinks: jax.Array
    out: jax.Array
    out_bias: jax.Array
    moe_norm: jax.Array
    router: jax.Array
    router_bias: jax.Array
    w1: jax.Array
    bias1: jax.Array
    w2: jax.Array
    bias2: jax.Array


def layer(
    p: Weights, x: jax.Array, residual: jax.Array, caches: Any, batch: Batch, tables: Any, *,
    heads: tuple[int, int], topk: int, window: int | None = None, limit: float = 7.0, epsilon: float = 1e-5, fused: bool,
):  # fmt: skip
    """``(x, residual, caches)`` after the layer; `tables` are the cosines and sines of `rope_tables`."""
    (keys, values), (cos, sin) = caches, tables
    h, _, residual = add_norm(x, residual, p.norm, epsilon, fp8=False, fused=fused)
    q, k, v = split_heads(project(h, p.qkv, p.qkv_bias), heads[0], heads[1], heads[1])
    if fused:
        q, _, keys, values = jax_aiter.rope_and_cache(q, k, v, keys, values, batch.slots, batch.positions, cos, sin)
    else:
        q, k = (jax_aiter.rope(a, cos, sin, batch.positions) for a in (q, k))
        keys, values = jax_aiter.reshape_and_cache(k, v, keys, values, batch.slots)
    o = attend(q, keys, values, batch, scale=q.shape[-1] ** -0.5, sliding_window=window, sinks=p.sinks)
    x = project(o.reshape(o.shape[0], -1), p.out, p.out_bias)
    h, _, residual = add_norm(x, residual, p.moe_norm, epsilon, fp8=False, fused=fused)
    weights, ids = jax_aiter.topk_softmax(project(h, p.router, p.router_bias, "float32"), topk, renormalize=True)
    experts = {"activation": "swiglu", "bias1": p.bias1, "bias2": p.bias2, "swiglu_limit": limit}
    return jax_aiter.fused_moe(h, p.w1, p.w2, weights, ids, **experts), residual, (keys, values)
