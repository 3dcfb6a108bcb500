"""Every expert for every token, of which each token then takes its own: with few rows per expert a GPU does this soonest.

The stacked weights are read once, where they stand. What a token does not take is never added, whatever it holds.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic
from jax_aiter.ops.moe.forms import aligned
from jax_aiter.ops.moe.forms import expert as moe_expert
from jax_aiter.ops.moe.forms import groups as moe_groups

NAME = "every expert for every token"
ELEMENTS = 1 << 28  # of [E, T, 2I] or [E, T, D] in float32


def suits(operands: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether it is cheaper than blocks (`aligned`), and the call has no more than one row per token and expert to compute."""
    (tokens, k), (experts, wide, model) = operands["topk_ids"].shape, operands["w1"].shape
    if symbolic.any_symbolic_size(tokens, k, experts, wide, model) or not experts:
        return False
    if params["quant_type"] != "none" or params["weight_layout"] is not None or params["doweight_stage1"]:
        return False
    size = operands["w1"].dtype.itemsize
    best = aligned.cost(tokens * k, experts, aligned.block_size(tokens * k, experts, size), size)
    return experts * tokens * max(wide, model) <= ELEMENTS and aligned.dense_cost(tokens, experts, size) <= best


def forward(operands: Mapping[str, Any], params: Mapping[str, Any]) -> jax.Array:
    """As `forward.forward`."""
    hidden, w1, w2 = operands["hidden_states"], operands["w1"], operands["w2"]
    experts, _, inter = w2.shape
    ids = moe_groups.local_ids(operands["topk_ids"], experts, operands["expert_mask"], operands["num_local_tokens"])
    chosen = ids[None] == jnp.arange(experts, dtype=jnp.int32)[:, None, None]  # [E, T, k]
    weight = jnp.sum(jnp.where(chosen, operands["topk_weight"], 0.0), axis=2)
    hidden = moe_expert.keep(hidden, 1, params["hidden_pad"])

    def one(w1, w2, b1, b2, taken, weight):
        given = moe_expert.Expert(w1, w2, None, None, b1, b2)
        expert = moe_expert.without_padding(given, inter, params)
        h = moe_expert.matmul(hidden, expert.w1)
        a = moe_expert.activate(h if expert.b1 is None else h + expert.b1, inter, params)
        y = moe_expert.matmul(a.astype(w2.dtype), expert.w2)
        y = y if expert.b2 is None else y + expert.b2
        return jnp.where(taken[:, None], y * weight[:, None], 0.0)

    b1, b2 = (None if (b := operands[n]) is None else b.astype(jnp.float32) for n in ("bias1", "bias2"))
    out = jnp.sum(jax.vmap(one)(w1, w2, b1, b2, chosen.any(2), weight), axis=0)
    return moe_expert.keep(out, 1, params["hidden_pad"]).astype(params["output_dtype"])
