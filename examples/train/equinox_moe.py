"""A mixture of experts as a module of equinox: a router, gated experts, and the balance of their load."""

import equinox as eqx
import jax
import jax.numpy as jnp

import jax_aiter


class MoE(eqx.Module):
    """``[..., dim]`` to ``[..., dim]``; experts multiply in `dtype`, parameters are float32.

    As other layers of equinox it may be called for one token ``[dim]`` and mapped by `jax.vmap`: the batched call is one of all
    tokens, not one per token.
    """

    router: jax.Array
    w1: jax.Array
    w2: jax.Array
    topk: int = eqx.field(static=True)
    dtype: jnp.dtype = eqx.field(static=True)

    def __init__(self, dim: int, width: int, experts: int, topk: int, *, key: jax.Array, dtype=jnp.bfloat16):
        keys = jax.random.split(key, 3)
        shapes = ((experts, dim), (experts, 2 * width, dim), (experts, dim, width))
        self.router, self.w1, self.w2 = (jax.random.normal(k, s) * s[-1] ** -0.5 for k, s in zip(keys, shapes, strict=True))
        self.topk, self.dtype = topk, jnp.dtype(dtype)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the experts give, and how evenly they share the load: 1 at best."""
        rows = x.reshape(-1, x.shape[-1])
        logits = jax_aiter.gemm_a16w16(rows.astype(jnp.float32), self.router)
        weights, ids = jax_aiter.topk_softmax(logits, self.topk, renormalize=True)
        w1, w2 = (w.astype(self.dtype) for w in (self.w1, self.w2))
        y = jax_aiter.fused_moe(rows.astype(self.dtype), w1, w2, weights, ids, activation="silu")
        count = logits.shape[-1]
        share = jnp.mean(jax.nn.one_hot(ids, count), axis=(0, 1))
        balance = count * jnp.sum(share * jnp.mean(jax.nn.softmax(logits), axis=0))
        return y.reshape(x.shape).astype(x.dtype), balance
