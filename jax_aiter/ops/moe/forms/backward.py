"""Backward of fused_moe as an op of its own, so that it lowers, batches and shards like any other.

It recomputes the first GEMM instead of saving [T·k, 2I]: two of eleven parts of a training step's work, for no memory. Where
kernels run, the forward keeps it (`gradient`).
Quantisation of activations is passed straight through (its derivative is taken as one); quantised weights have no gradient.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import machine
from jax_aiter.ops.gemm.shuffle_weight import shuffled
from jax_aiter.ops.moe.formats import int4, quant
from jax_aiter.ops.moe.forms import aligned, forward
from jax_aiter.ops.moe.forms import expert as moe_expert
from jax_aiter.ops.moe.forms import groups as moe_groups

RESULTS = {
    "d_hidden_states": "T D",
    "d_w1": "E N1 D",
    "d_w2": "E D I",
    "d_topk_weight": "T k",
    "d_bias1": "E N1",
    "d_bias2": "E D",
}


def abstract(operands, params):
    """Weight gradients in the weights' own type; empty where the weights are quantised, or where there is no bias."""
    w1, w2 = operands["w1"], operands["w2"]
    trained = params["quant_type"] == "none"
    biases = [(w.shape[:2] if operands[name] is not None else (0, 0)) for name, w in (("bias1", w1), ("bias2", w2))]
    shapes = [
        (operands["hidden_states"].shape, jnp.float32),
        (w1.shape if trained else (0, 0, 0), w1.dtype if trained else jnp.float32),
        (w2.shape if trained else (0, 0, 0), w2.dtype if trained else jnp.float32),
        (operands["topk_weight"].shape, jnp.float32),
        *((shape, jnp.float32) for shape in biases),
    ]
    return tuple(jax.ShapeDtypeStruct(*s) for s in shapes)


def backward(cotangent, operands, params):
    """The six results above for the cotangent [T, D] of the output; weight gradients in the order in which the weights stand."""
    tokens, k = operands["topk_ids"].shape
    w1, w2 = operands["w1"], operands["w2"]
    width, intermediate = w2.shape[1], int4.columns(w2, params)
    early, trained, layout = params["doweight_stage1"], params["quant_type"] == "none", params["weight_layout"]
    dtype = int4.compute_dtype(operands, params)
    groups = forward.routing(operands)
    block = moe_groups.block_rows(tokens * k, w1.shape[0])
    x = moe_expert.inputs(operands, params, groups)
    load = moe_expert.loader(operands, params)
    a2_scale = forward.second_scale(operands, params, groups, block, x, load)

    def ordered(weight):
        return weight if layout is None else shuffled(weight, layout)

    dout = moe_expert.keep(cotangent.astype(jnp.float32), 1, params["hidden_pad"])
    weights = operands["topk_weight"].reshape(-1)

    def fresh():
        d_w = (jnp.zeros(w1.shape[1:], jnp.float32), jnp.zeros(w2.shape[1:], jnp.float32)) if trained else ()
        return d_w, jnp.zeros(w1.shape[1], jnp.float32), jnp.zeros(width, jnp.float32)

    def compute(expert, rows):
        """Of a block: (gradient of its rows, of their weights), and its parts of those of both weights and biases."""
        # Rows of another expert, or of nobody, are zeroed on both sides: whatever they hold, NaN included, adds nothing.
        valid = rows.valid[:, None]
        xb = x.rows(rows.entry // k)
        xb = xb._replace(values=jnp.where(valid, xb.values, jnp.zeros((), xb.values.dtype)))
        if xb.scale is not None and xb.scale.ndim == 2:
            xb = xb._replace(scale=jnp.where(valid, xb.scale, 0.0))
        weight = jnp.where(rows.valid, weights[rows.entry], 0.0)
        g = jnp.where(valid, dout[rows.entry // k], 0.0)

        u = moe_expert.first_gemm(expert, xb)
        # Blocks of nobody meet the weights of some expert, which may be one that no row takes.
        h = jnp.where(valid, moe_expert.preactivation(expert, u, weight, params), 0.0)
        a, pull = jax.vjp(lambda h: moe_expert.activate(h, intermediate, params), h)
        a = quant.dequantize(moe_expert.requantize(a, a2_scale, dtype, params)).astype(jnp.float32)

        q = jnp.where(valid, moe_expert.matmul(g if expert.s2 is None else g * expert.s2, expert.w2, contract=0), 0.0)
        d_h = pull(q if early else q * weight[:, None])[0]
        if early:
            d_weight = jnp.sum(d_h * u, axis=1)
            d_u, d_y = d_h * weight[:, None], g
        else:
            d_weight = jnp.sum(a * q, axis=1)
            if expert.b2 is not None:
                d_weight += g @ expert.b2
            d_u, d_y = d_h, g * weight[:, None]
        d_x = moe_expert.matmul(d_u if expert.s1 is None else d_u * expert.s1, expert.w1, contract=0)
        d_w = (moe_expert.outer(d_u, xb.values, w1.dtype), moe_expert.outer(d_y, a, w2.dtype)) if trained else ()
        return (d_x, d_weight), (d_w, jnp.sum(d_h, axis=0), jnp.sum(d_y, axis=0))

    def step(expert, rows, total, state):
        (d_x, d_weight), parts = compute(expert, rows)
        d_rows, d_weights, stacked = state
        d_rows = jax.lax.dynamic_update_slice(d_rows, d_x, (rows.start, 0))
        d_weights = jax.lax.dynamic_update_slice(d_weights, d_weight, (rows.start,))
        return jax.tree.map(jnp.add, total, parts), (d_rows, d_weights, stacked)

    def finish(total) -> Any:
        d_w, d_b1, d_b2 = total
        matrices: Any = d_w if trained else (None, None)
        parts = moe_expert.Expert(matrices[0], matrices[1], None, None, d_b1, d_b2)
        parts = moe_expert.without_padding(parts, intermediate, params)
        d_w = (ordered(parts.w1.astype(w1.dtype)), ordered(parts.w2.astype(w2.dtype))) if trained else ()
        return d_w, parts.b1, parts.b2

    def store(e, total, state):
        d_rows, d_weights, stacked = state

        def put(whole, part):
            return jax.lax.dynamic_update_index_in_dim(whole, part, e, 0)

        return d_rows, d_weights, jax.tree.map(put, stacked, finish(total))

    structs = abstract(operands, params)
    zeros = [jnp.zeros(s.shape, s.dtype) for s in structs]
    if machine.is_gpu() and 0 not in (tokens * k, w1.shape[0]):
        parts, size = int4.loaded(operands, params)
        fit = aligned.block_size(tokens * k, w1.shape[0], size, aligned.COPIES + (8 // size if trained else 0))
        loaded = parts * (size + 4) // size if trained else parts
        (d_rows, d_weights), sums = aligned.folded(groups, fit, load, compute, loaded)
        d_w, d_b1, d_b2 = jax.vmap(finish)(sums)
    else:
        biases = (jnp.zeros(w.shape[:2], jnp.float32) for w in (w1, w2))
        stacked = ((zeros[1], zeros[2]) if trained else (), *biases)
        state = (jnp.zeros((tokens * k + block, width), jnp.float32), jnp.zeros(tokens * k + block, jnp.float32), stacked)
        d_rows, d_weights, (d_w, d_b1, d_b2) = moe_groups.over_experts(groups, block, load, step, state, fresh=fresh, store=store)
    d_w1, d_w2 = d_w if trained else zeros[1:3]
    d_hidden = moe_expert.keep(moe_groups.combine(groups, d_rows, (tokens, k)), 1, params["hidden_pad"])
    d_topk = moe_groups.combine_scalar(groups, d_weights).reshape(tokens, k)
    return d_hidden, d_w1, d_w2, d_topk, *given_biases(operands, d_b1, d_b2)


def given_biases(operands, *gradients):
    """Those of biases that the call has; nothing of others."""
    names = ("bias1", "bias2")
    return tuple(x if operands[n] is not None else jnp.zeros((0, 0), x.dtype) for n, x in zip(names, gradients, strict=True))
