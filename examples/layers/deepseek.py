"""DeepSeek-V3: latent attention with absorbed projections, grouped sigmoid routing with a bias, a shared expert."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jax_aiter
from examples.layers.parts import GROUP, Batch, Fp8, add_norm, mlp, project, project_heads


class Weights(NamedTuple):
    """qkv_a: ``[Q + L + R, M]``; q_b: ``[H (N + R), Q]``; key_up: ``[H, L, N]``; value_up: ``[H, V, L]``; out: ``[M, H V]``.

    Q and L are the ranks of queries and cache, R the rotated, N the plain and V the value dimensions of a head.
    """

    norm: jax.Array
    qkv_a: Any
    q_norm: jax.Array
    kv_norm: jax.Array
    q_b: Any
    key_up: jax.Array
    value_up: jax.Array
    out: jax.Array
    moe_norm: jax.Array
    router: jax.Array
    bias: jax.Array
    w1: jax.Array
    w2: jax.Array
    shared_gate_up: Any
    shared_down: Any


class Routing(NamedTuple):
    """Experts a token, groups of experts, of these those chosen from, and the factor of the weights."""

    topk: int
    groups: int
    topk_group: int
    factor: float


def _norms(p: Weights, q: jax.Array, kv: jax.Array, epsilon: float, *, fp8: bool, fused: bool):
    if not fused:
        q, kv = jax_aiter.rms_norm(q, p.q_norm, epsilon), jax_aiter.rms_norm(kv, p.kv_norm, epsilon)
        return Fp8(*jax_aiter.group_quant(q, group_size=GROUP)) if fp8 else q, kv
    if fp8:
        values, scales, kv = jax_aiter.fused_qk_rms_norm_quant(q, p.q_norm, kv, p.kv_norm, epsilon, epsilon, group_size=GROUP)
        return Fp8(values, scales), kv
    return jax_aiter.fused_qk_rms_norm(q, p.q_norm, kv, p.kv_norm, epsilon, epsilon)


def _attention(p, h, cache, batch: Batch, tables, scale: float, epsilon: float, queries: int, *, fp8: bool, fused: bool):
    heads, rank, plain = p.key_up.shape
    cos, sin = tables
    a = project(h, p.qkv_a)
    q, kv, k_pe = jnp.split(a, [p.q_norm.shape[0], p.q_norm.shape[0] + rank], axis=-1)
    q, kv = _norms(p, q, kv, epsilon, fp8=fp8, fused=fused)
    q = project(q, p.q_b).reshape(a.shape[0], heads, -1)
    q_nope, q_pe = q[..., :plain], q[..., plain:]
    q_nope = project_heads(q_nope, p.key_up)
    if fused:
        q, _, cache = jax_aiter.fused_qk_rope_concat_and_cache_mla(
            q_nope, q_pe, kv, k_pe, cache, batch.slots, batch.positions, cos, sin, rotate_style="gptj"
        )
    else:
        q_pe, k_pe = (jax_aiter.rope(x, cos, sin, batch.positions, rotate_style="gptj") for x in (q_pe, k_pe[:, None]))
        q = jnp.concatenate([q_nope, q_pe], -1)
        cache = jax_aiter.concat_and_cache_mla(kv, k_pe[:, 0], cache, batch.slots)
    pages = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(batch.context_lens, dtype=jnp.int32)])  # pages of one token
    o = jax_aiter.mla_decode_fwd(
        q, cache, batch.offsets, pages, batch.tables, jnp.ones_like(batch.context_lens), max_seqlen_qo=queries, sm_scale=scale
    )
    o = project_heads(o, p.value_up)
    return jax_aiter.gemm_a16w16(o.reshape(o.shape[0], -1), p.out), cache


def layer(
    p: Weights, x: jax.Array, residual: jax.Array, cache: Any, batch: Batch, tables: Any, *,
    routing: Routing, scale: float, queries: int | None = None, epsilon: float = 1e-6, fused: bool, fp8: bool = False,
):  # fmt: skip
    """``(x, residual, cache)`` after the layer. The cache has pages of one token; `batch.tables` lists those of all sequences.

    `queries` is the most new tokens of a sequence, 1 in a decode step; None: what the batch says.
    """
    h, _, residual = add_norm(x, residual, p.norm, epsilon, fp8=fp8, fused=fused)
    x, cache = _attention(p, h, cache, batch, tables, scale, epsilon, queries or batch.longest, fp8=fp8, fused=fused)
    h, plain, residual = add_norm(x, residual, p.moe_norm, epsilon, fp8=fp8, fused=fused, keep=True)
    weights, ids = jax_aiter.biased_grouped_topk(
        project(plain, p.router, out_dtype="float32"), p.bias, routing.topk, num_expert_group=routing.groups,
        topk_group=routing.topk_group, renormalize=True, routed_scaling_factor=routing.factor,
    )  # fmt: skip
    routed = jax_aiter.fused_moe(plain, p.w1, p.w2, weights, ids)
    return routed + mlp(h, p.shared_gate_up, p.shared_down, fused=fused), residual, cache
