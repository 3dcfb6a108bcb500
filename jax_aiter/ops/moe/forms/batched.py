"""The first rows of every expert as one batched GEMM, straight from the stacked weights.

The loop over experts copies each expert's weights out of the stack before its GEMM; with few rows per expert that copy costs more
than the arithmetic. A batched GEMM reads the stack in place, for a fixed number of rows per expert; experts with more rows than
that leave the rest to the loop. Worth it only in between: with hardly any rows per expert it would read the weights of absent
experts, with many the copy is hidden. float32 only: XLA's CPU backend has no batched half-precision GEMM with float32 results.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic
from jax_aiter.ops.moe.forms import expert as moe_expert
from jax_aiter.ops.moe.forms import groups as moe_groups

FEWEST, MOST = 16, 128  # mean rows per expert between which the batched GEMM wins on x86 (benchmarks/moe_reference.py)


def rows_per_expert(operands: Mapping[str, Any], params: Mapping[str, Any]) -> int:
    """How many rows of each expert the batched GEMM takes: the mean and 2.5 standard deviations of even routing; 0 for none."""
    experts, entries = operands["w1"].shape[0], operands["topk_ids"].size
    if symbolic.any_symbolic_size(experts, entries):
        return 0  # how many rows pay off is not known
    mean = entries / max(experts, 1)
    plain = params["quant_type"] == "none" and params["weight_layout"] is None
    padded = params["hidden_pad"] or params["intermediate_pad"]
    same = operands["hidden_states"].dtype == operands["w1"].dtype == operands["w2"].dtype == jnp.float32
    if not experts or not plain or padded or not same or not FEWEST <= mean <= MOST:
        return 0
    return 8 * math.ceil((mean + 2.5 * math.sqrt(mean)) / 8)


def first_rows(
    operands: Mapping[str, Any], params: Mapping[str, Any], groups: moe_groups.Groups, size: int, more: int
) -> jax.Array:
    """float32 [T·k + more, D], in sorted order: the experts' outputs for each one's first `size` rows; others hold anything.

    Rows stand in the last axis of both products, so that the weights are the left factor, as they lie in memory: a right factor
    with its contracted axis last is transposed on the way, which for so few rows costs as much as the arithmetic.
    """
    hidden, w1, w2 = operands["hidden_states"], operands["w1"], operands["w2"]
    entries = groups.order.shape[0]
    place = groups.first[:, None] + jnp.arange(size, dtype=jnp.int32)
    entry = groups.order[jnp.minimum(place, entries - 1)]
    x = hidden[entry // operands["topk_ids"].shape[1]]
    h = jnp.einsum("efd,ecd->efc", w1, x)
    if params["doweight_stage1"]:
        h = h * operands["topk_weight"].reshape(-1)[entry][:, None]
    if operands["bias1"] is not None:
        h = h + operands["bias1"].astype(jnp.float32)[:, :, None]
    y = jnp.einsum("edi,eic->edc", w2, moe_expert.activate(h, w2.shape[2], params))
    if operands["bias2"] is not None:
        y = y + operands["bias2"].astype(jnp.float32)[:, :, None]
    y = jax.lax.optimization_barrier(y)  # XLA would swap the factors rather than let the reader find each row's elements
    row = jnp.arange(entries + more, dtype=jnp.int32)
    expert = moe_groups.experts_of(groups, row)
    column = jnp.clip(row - groups.first[expert], 0, size - 1)
    return jnp.swapaxes(y, 1, 2).reshape(-1, y.shape[1])[expert * size + column]


def rest(groups: moe_groups.Groups, size: int) -> moe_groups.Groups:
    """The groups without each expert's first `size` rows."""
    taken = jnp.minimum(groups.counts, size)
    return groups._replace(first=groups.first + taken, counts=groups.counts - taken)
