"""The grouped reference of fused_moe: work for T·k rows, whatever the number of experts."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import machine
from jax_aiter.ops.moe.formats import int4, quant
from jax_aiter.ops.moe.forms import batched as moe_batched
from jax_aiter.ops.moe.forms import dense
from jax_aiter.ops.moe.forms import expert as moe_expert
from jax_aiter.ops.moe.forms import groups as moe_groups
from jax_aiter.ops.moe.forms.over_rows import bytes_of, over_rows


def routing(operands: Mapping[str, jax.Array | None]) -> moe_groups.Groups:
    ids, w1 = operands["topk_ids"], operands["w1"]
    assert ids is not None
    assert w1 is not None
    experts = w1.shape[0]
    return moe_groups.group(moe_groups.local_ids(ids, experts, operands["expert_mask"], operands["num_local_tokens"]), experts)


def _intermediate(operands, params, x: quant.Quantized, expert, rows: moe_groups.Rows) -> jax.Array:
    tokens = rows.entry // operands["topk_ids"].shape[1]
    weight = operands["topk_weight"].reshape(-1)[rows.entry]
    u = moe_expert.first_gemm(expert, x.rows(tokens))
    return moe_expert.activate(moe_expert.preactivation(expert, u, weight, params), int4.columns(operands["w2"], params), params)


def second_scale(operands, params, groups, block, x, load) -> jax.Array | None:
    """The per-tensor scale of the intermediate: given, or a pass over all rows for its amax (nothing [T·k, I] is kept)."""
    if params["quant_type"] != "per_tensor" or operands["a2_scale"] is not None:
        return operands["a2_scale"]

    def largest(expert, rows):
        a = jnp.abs(_intermediate(operands, params, x, expert, rows))
        return jnp.max(jnp.where(rows.valid[:, None], a, 0.0), axis=1, initial=0.0)

    def step(expert, rows, total, top):
        return total, jnp.maximum(top, jnp.max(largest(expert, rows)))

    if machine.is_gpu():
        top = over_rows(groups, load, lambda *part: largest(*part)[:, None], 1, bytes_of(operands["w1"], operands["w2"]), 1)
        top = jnp.max(jnp.where(groups.used[groups.order], top[: groups.order.shape[0], 0], 0.0), initial=0.0)
    else:
        top = moe_groups.over_experts(groups, block, load, step, jnp.float32(0))
    return quant.amax_scale(top, operands["w2"].dtype)


def forward(operands: Mapping[str, Any], params: Mapping[str, Any]) -> jax.Array:
    """[T, D] in the output dtype."""
    if machine.is_gpu() and dense.suits(operands, params):
        return dense.forward(operands, params)
    tokens, k = operands["topk_ids"].shape
    width = operands["w2"].shape[1]
    groups = routing(operands)
    block = moe_groups.block_rows(tokens * k, operands["w1"].shape[0])
    x = moe_expert.inputs(operands, params, groups)
    load = moe_expert.loader(operands, params)
    scale = second_scale(operands, params, groups, block, x, load)

    def compute(expert, rows):
        a = _intermediate(operands, params, x, expert, rows)
        return moe_expert.second_gemm(expert, moe_expert.requantize(a, scale, int4.compute_dtype(operands, params), params))

    def step(expert, rows, total, out):
        y = compute(expert, rows)  # the rows behind this expert's last are done already
        y = jnp.where(rows.valid[:, None], y, jax.lax.dynamic_slice(out, (rows.start, 0), y.shape))
        return total, jax.lax.dynamic_update_slice(out, y, (rows.start, 0))

    batched = 0 if machine.is_gpu() else moe_batched.rows_per_expert(operands, params)
    if batched:
        start = moe_batched.first_rows(operands, params, groups, batched, block)
        rows = moe_groups.over_experts(moe_batched.rest(groups, batched), block, load, step, start)
    else:
        rows = over_rows(groups, load, compute, width, *int4.loaded(operands, params))
    weight = None if params["doweight_stage1"] else operands["topk_weight"]
    out = moe_expert.keep(moe_groups.combine(groups, rows, (tokens, k), weight), 1, params["hidden_pad"])
    return out.astype(params["output_dtype"])
