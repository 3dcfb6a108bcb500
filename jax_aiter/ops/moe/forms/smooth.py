"""The MoE reference with smooth-quantisation scales: factors that belong to an expert, applied before each quantisation."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.ops.moe.formats import quant
from jax_aiter.ops.moe.formats.quant import Quantized
from jax_aiter.ops.moe.forms import expert as moe_expert
from jax_aiter.ops.moe.forms import forward as moe_forward
from jax_aiter.ops.moe.forms import groups as moe_groups
from jax_aiter.ops.moe.forms.over_rows import bytes_of, over_rows

SMOOTH = ("fc1_smooth_scale", "fc2_smooth_scale")
#: columns that share a scale where the kernel quantises the hidden states itself: one step of its loop over D
STEP = 256


def forward(operands: Mapping[str, Any], params: Mapping[str, Any], *, stepwise: bool = False) -> jax.Array:
    """[T, D] in the output dtype; operands and parameters as fused_moe has them, per token, and the two smooth scales.

    The first one depends on the expert, so every (token, expert) row is quantised on its own: over all of D, or `stepwise`.
    """
    tokens, k = operands["topk_ids"].shape
    groups = moe_forward.routing(operands)
    hidden, weights = operands["hidden_states"].astype(jnp.float32), operands["topk_weight"].reshape(-1)
    experts, dtype, early = moe_expert.loader(operands, params), operands["w1"].dtype, params["doweight_stage1"]

    def load(e):
        return experts(e), *(moe_groups.take_row(operands[n], e) for n in SMOOTH)

    def compute(loaded, rows):
        expert, before, between = loaded
        u = moe_expert.first_gemm(expert, _quantised(hidden[rows.entry // k] * before, dtype, stepwise))
        h = moe_expert.preactivation(expert, u, weights[rows.entry], params)
        a = moe_expert.activate(h, operands["w2"].shape[2], params) * between
        return moe_expert.second_gemm(expert, quant.quantize(a, "per_token", dtype))

    rows = over_rows(groups, load, compute, hidden.shape[1], bytes_of(operands["w1"], operands["w2"]), dtype.itemsize)
    out = moe_groups.combine(groups, rows, (tokens, k), None if early else operands["topk_weight"])
    return out.astype(params["output_dtype"])


def _quantised(x: jax.Array, dtype: Any, stepwise: bool) -> Quantized:
    if not stepwise:
        return quant.quantize(x, "per_token", dtype)
    steps = quant.dequantize(quant.quantize(x.reshape(-1, STEP), "per_token", dtype))
    return Quantized(steps.reshape(x.shape), None)
