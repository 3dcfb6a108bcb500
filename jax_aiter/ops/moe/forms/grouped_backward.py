"""Backward of fused_moe as grouped GEMMs over all sorted rows: what a GPU wants, where the loop over experts waits on the host.

The same derivative as `backward`, which keeps no [T·k, 2I]: here the rows, both halves of the intermediate and their cotangents
stand in memory, in the type of the weights, as a kernel reads them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.ops.gemm.shuffle_weight import shuffled, unshuffled
from jax_aiter.ops.moe.forms import expert as moe_expert
from jax_aiter.ops.moe.forms import forward
from jax_aiter.ops.moe.forms import groups as moe_groups
from jax_aiter.ops.moe.forms.backward import given_biases


class Products(NamedTuple):
    """The five products, by what they give; each takes its two arrays and the experts' group sizes. The first three may leave
    anything in the rows that no expert takes.

    u: ``x · w1ᵀ``. q: ``g · w2``. d_x: ``d_u · w1``. d_w1: ``d_uᵀ · x``. d_w2: ``gᵀ · a``, each row of a times its weight.
    """

    u: Callable[..., jax.Array]
    q: Callable[..., jax.Array]
    d_x: Callable[..., jax.Array]
    d_w1: Callable[..., jax.Array]
    d_w2: Callable[..., jax.Array]


def backward(
    cotangent: jax.Array,
    operands: Mapping[str, Any],
    params: Mapping[str, Any],
    products: Products,
    gate_up: jax.Array | None = None,
):
    """The results of `backward.backward` for float weights without padding, from products of the weights' type.

    gate_up: [T, k, 2I], the first product as the forward pass kept it, which is then not asked of `products`.
    """
    w1, w2, layout = operands["w1"], operands["w2"], params["weight_layout"]
    (tokens, k), (experts, _, intermediate) = operands["topk_ids"].shape, w2.shape
    early, dtype = params["doweight_stage1"], w1.dtype
    plain1, plain2 = (w if layout is None else unshuffled(w, layout) for w in (w1, w2))

    groups = forward.routing(operands)
    sizes, row = groups.counts, jnp.arange(tokens * k, dtype=jnp.int32)
    taken = (row < jnp.sum(sizes))[:, None]
    expert = moe_groups.experts_of(groups, row)
    token = groups.order // k

    def rows(x):
        return jnp.where(taken, x[token], jnp.zeros((), x.dtype))

    x, g = rows(operands["hidden_states"]), rows(cotangent.astype(jnp.float32))
    weight = jnp.where(taken[:, 0], operands["topk_weight"].reshape(-1)[groups.order], 0.0)[:, None]
    u = products.u(x, plain1, sizes) if gate_up is None else gate_up.reshape(tokens * k, -1)[groups.order]
    u = u.astype(jnp.float32)
    h = u * weight if early else u
    if operands["bias1"] is not None:
        h = h + jnp.where(taken, operands["bias1"].astype(jnp.float32)[expert], 0.0)
    a, pull = jax.vjp(lambda h: moe_expert.activate(h, intermediate, params), h)
    a = jnp.where(taken, a, 0.0)
    half = g.astype(dtype)
    q = products.q(half, plain2, sizes).astype(jnp.float32)
    d_h = jnp.where(taken, pull(q if early else q * weight)[0], 0.0)
    if early:
        d_weight, d_u, weighted = jnp.sum(d_h * u, axis=1), d_h * weight, a
    else:
        # The weight goes to a and not to g, the wider of the two, which stands in memory already.
        d_weight, d_u, weighted = jnp.sum(a * q, axis=1), d_h, a * weight
        if operands["bias2"] is not None:
            d_weight += jnp.sum(g * jnp.where(taken, operands["bias2"].astype(jnp.float32)[expert], 0.0), axis=1)
    d_u = d_u.astype(dtype)
    d_x = products.d_x(d_u, plain1, sizes).astype(jnp.float32)
    d_w1, d_w2 = products.d_w1(d_u, x, sizes), products.d_w2(half, weighted.astype(dtype), sizes)

    def by_expert(x):
        return jax.ops.segment_sum(x, expert, num_segments=experts)

    d_hidden = moe_groups.combine(groups, d_x, (tokens, k))
    d_topk = moe_groups.combine_scalar(groups, d_weight).reshape(tokens, k)
    d_w1, d_w2 = (w if layout is None else shuffled(w, layout) for w in (d_w1, d_w2))
    biases = given_biases(operands, by_expert(d_h), by_expert(g if early else g * weight))
    return d_hidden, d_w1, d_w2, d_topk, *biases
