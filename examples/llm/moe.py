"""Mixtures of experts: three routers, and what every token takes beside its experts."""

from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter
from examples.llm.config import Experts
from examples.llm.linear import Blocks, PerToken, linear, pad_last
from examples.llm.mlp import mlp


def route(p: dict[str, Any], e: Experts, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weights float32 and experts int32, ``[T, topk]`` both. Logits are float32: two that nearly tie decide between experts."""
    logits = linear(x.astype(jnp.float32), p["router"])
    if e.router == "grouped":
        return jax_aiter.biased_grouped_topk(
            logits, p["correction"], e.topk, num_expert_group=e.groups, topk_group=e.topk_group, renormalize=e.renormalize,
            routed_scaling_factor=e.factor,
        )  # fmt: skip
    if e.router == "sigmoid":
        return jax_aiter.topk_sigmoid(logits, e.topk)
    return jax_aiter.topk_softmax(logits, e.topk, renormalize=e.renormalize)


def moe(p: dict[str, Any], e: Experts, x: jax.Array) -> jax.Array:
    """``[..., M]`` to ``[..., M]``."""
    rows = x.reshape(-1, x.shape[-1])
    y = _experts(p, e, rows, *route(p, e, rows)).reshape(x.shape)
    return y if e.shared is None else y + mlp(p["shared"], e.shared, x)


def _experts(p: dict[str, Any], e: Experts, x: jax.Array, weights: jax.Array, ids: jax.Array) -> jax.Array:
    w1, w2 = p["w1"].weight, p["w2"].weight
    more: dict[str, Any] = {"bias1": p["w1"].bias, "bias2": p["w2"].bias}
    width = x.shape[1]
    if isinstance(w1, PerToken | Blocks):
        kind = "per_token" if isinstance(w1, PerToken) else "per_128x128"
        more |= {"quant_type": kind, "w1_scale": w1.scale, "w2_scale": w2.scale}
        w1, w2 = w1.values, w2.values
        more |= {"hidden_pad": w1.shape[2] - width, "intermediate_pad": w2.shape[2] - e.width}
    y = jax_aiter.fused_moe(
        pad_last(x, w1.shape[2]), w1, w2, weights, ids, activation=e.activation, doweight_stage1=e.weigh_input,
        swiglu_limit=e.limit, **more,
    )  # fmt: skip
    return y[:, :width]
