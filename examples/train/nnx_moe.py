"""A mixture of experts as a module of flax.nnx: a router, gated experts, and the balance of their load."""

import jax
import jax.numpy as jnp
from flax import nnx

import jax_aiter


class MoE(nnx.Module):
    """``[..., dim]`` to ``[..., dim]``; experts multiply in `dtype`, parameters are float32.

    The first axis of `w1` and `w2` is that of experts. Inside of a `jax.shard_map` that splits them over it,
    `jax_aiter.parallel.expert_parallel` takes the place of `jax_aiter.fused_moe`: as `examples.llm.moe` has it.
    """

    def __init__(self, dim: int, width: int, experts: int, topk: int, *, rngs: nnx.Rngs, dtype=jnp.bfloat16):
        draw = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=-1, out_axis=-2, batch_axis=())
        each = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=-1, out_axis=-2, batch_axis=0)
        self.router = nnx.Param(draw(rngs.params(), (experts, dim)))
        self.w1 = nnx.Param(each(rngs.params(), (experts, 2 * width, dim)))
        self.w2 = nnx.Param(each(rngs.params(), (experts, dim, width)))
        self.topk, self.dtype = topk, dtype

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the experts give, and how evenly they share the load: 1 at best."""
        rows = x.reshape(-1, x.shape[-1])
        logits = jax_aiter.gemm_a16w16(rows.astype(jnp.float32), self.router[...])
        weights, ids = jax_aiter.topk_softmax(logits, self.topk, renormalize=True)
        w1, w2 = (w[...].astype(self.dtype) for w in (self.w1, self.w2))
        y = jax_aiter.fused_moe(rows.astype(self.dtype), w1, w2, weights, ids, activation="silu")
        count = logits.shape[-1]
        share = jnp.mean(jax.nn.one_hot(ids, count), axis=(0, 1))
        balance = count * jnp.sum(share * jnp.mean(jax.nn.softmax(logits), axis=0))
        return y.reshape(x.shape).astype(x.dtype), balance
