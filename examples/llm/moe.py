"""Mixtures of experts: three routers, and what every token takes beside its experts."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter
from examples.llm.config import Experts
from examples.llm.linear import Blocks, Packed, PerToken, Rounded, linear, pad_last, round_to_fp8
from examples.llm.mlp import mlp
from examples.llm.straight_through import straight_through
from jax_aiter.parallel import expert_parallel


def route(p: dict[str, Any], e: Experts, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weights float32 and experts int32, ``[T, topk]`` both. Logits are float32: two that nearly tie decide between experts."""
    if e.router == "grouped":
        return jax_aiter.biased_grouped_topk(
            logits, p["correction"], e.topk, num_expert_group=e.groups, topk_group=e.topk_group, renormalize=e.renormalize,
            routed_scaling_factor=e.factor,
        )  # fmt: skip
    if e.router == "sigmoid":
        return jax_aiter.topk_sigmoid(logits, e.topk)
    return jax_aiter.topk_softmax(logits, e.topk, renormalize=e.renormalize)


def moe(p: dict[str, Any], e: Experts, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """``[..., M]`` to ``[..., M]``; and the router's logits ``[T, E]`` with the experts ``[T, topk]`` that were chosen by them."""
    rows = x.reshape(-1, x.shape[-1])
    logits = linear(rows.astype(jnp.float32), p["router"])
    weights, ids = route(p, e, logits)
    y = _experts(p, e, rows, weights, ids).reshape(x.shape)
    return y if e.shared is None else y + mlp(p["shared"], e.shared, x), (logits, ids)


def balance(logits: jax.Array, ids: jax.Array, sequences: int) -> jax.Array:
    """float32 ``[sequences]``: 1 where the experts share a sequence's tokens and their probabilities evenly, more elsewhere.

    DeepSeek-V3's, by sequence: so that the loss of a batch is the mean of its sequences', wherever and in how many parts they run.
    """
    count = logits.shape[1]
    share = jnp.mean(jax.nn.one_hot(ids, count).reshape(sequences, -1, count), axis=1)
    probabilities = jnp.mean(jax.nn.softmax(logits).reshape(sequences, -1, count), axis=1)
    return count * jnp.sum(share * probabilities, axis=1)


def _experts(p: dict[str, Any], e: Experts, x: jax.Array, weights: jax.Array, ids: jax.Array) -> jax.Array:
    w1, w2 = p["w1"].weight, p["w2"].weight
    if isinstance(w1, Rounded):

        def held_as(of: Callable[[jax.Array], Any], held: dict[str, Any], *tokens: jax.Array) -> jax.Array:
            return _experts({name: w._replace(weight=of(w.weight.weight)) for name, w in held.items()}, e, *tokens)

        held = {name: p[name] for name in ("w1", "w2")}
        return straight_through(
            functools.partial(held_as, round_to_fp8), functools.partial(held_as, lambda w: w), held, x, weights, ids
        )
    more: dict[str, Any] = {"bias1": p["w1"].bias, "bias2": p["w2"].bias}
    width = x.shape[1]
    if isinstance(w1, Packed):
        more |= {"quant_type": "per_1x32", "w1_scale": w1.scale, "w2_scale": w2.scale}
        w1, w2 = w1.values, w2.values
    elif isinstance(w1, PerToken | Blocks):
        kind = "per_token" if isinstance(w1, PerToken) else "per_128x128"
        more |= {"quant_type": kind, "w1_scale": w1.scale, "w2_scale": w2.scale}
        w1, w2 = w1.values, w2.values
        more |= {"hidden_pad": w1.shape[2] - width, "intermediate_pad": w2.shape[2] - e.width}
        x = pad_last(x, w1.shape[2])
    if e.inner:  # each device has a share of the columns: what it gives is a part of the sum, to which a bias belongs once
        more["output_dtype"] = jnp.float32
        if more["bias2"] is not None:
            more["bias2"] = jnp.where(jax.lax.axis_index(e.inner) == 0, more["bias2"], 0)
    run = functools.partial(expert_parallel, axis_name=e.axis, num_experts=e.count) if e.axis else jax_aiter.fused_moe
    y = run(
        x, w1, w2, weights, ids, activation=e.activation, doweight_stage1=e.weigh_input,
        swiglu_limit=e.limit, **more,
    )[:, :width]  # fmt: skip
    return jax.lax.psum(y, e.inner).astype(x.dtype) if e.inner else y
