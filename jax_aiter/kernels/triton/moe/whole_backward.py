"""The gradient of a plain layer as one plan: sorted once, no pass of XLA's between the products.

Rows stand in the order of the sort, each expert's from a whole block on; rows between belong to nobody and are not read. AITER's
grouped GEMM does the two products with weights, our own (`glue_outer`) the two of weights' gradients. What this cannot do (weights
applied early, shuffled weights) is composed of other ops in `backward`.
"""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.moe import moe
from jax_aiter.kernels.triton.moe.grouped import config_of
from jax_aiter.kernels.triton.moe.spaces import fused_moe_backward_space
from jax_aiter.kernels.triton.rules import HALF, INT32_MAX, dtype_in, first, param_is

#: rows of the largest block that a tile has.
LARGEST = 256


def _refuse(spec: CallSpec) -> str | None:
    dtype, (experts, wide, model), slots = spec["w1"].dtype, spec["w1"].shape, spec["topk_ids"].size
    rows = slots + (experts + 1) * LARGEST
    most = rows * max(wide, model)
    return first(
        param_is(spec, "quant_type", "none"),
        param_is(spec, "doweight_stage1", False),
        param_is(spec, "weight_layout", None),
        param_is(spec, "hidden_pad", 0),
        param_is(spec, "intermediate_pad", 0),
        param_is(spec, "activation", *moe.ACTIVATIONS),
        dtype_in(spec, "w1", HALF),
        dtype_in(spec, "topk_weight", ("float32",)),
        dtype_in(spec, "topk_ids", ("int32",)),
        *(
            None if spec[name].dtype == dtype else f"{name} has another dtype than w1, {dtype}"
            for name in ("hidden_states", "d_out")
        ),
        None if most <= INT32_MAX else f"{rows} sorted rows are up to {most} elements; AITER's kernel counts with 32 bits",
    )


@op(
    "fused_moe_backward",
    source="aiter.ops.triton.moe.moe_op.fused_moe",
    refuse=_refuse,
    needs=("moe.moe_op:fused_moe", "utils.moe_config_utils:get_optimal_moe_config", "gmm:ptgmm"),
    space=fused_moe_backward_space,
    tiles="fused_moe",
)
def fused_moe_backward(ctx):
    import torch
    from aiter.ops.triton.utils.moe_config_utils import get_optimal_moe_config

    from jax_aiter.kernels.triton.worker.own import glue, glue_outer, glue_pull, glue_sort, glue_sums

    spec = ctx.spec
    x, d_out, w1, w2 = (ctx.operand(name) for name in ("hidden_states", "d_out", "w1", "w2"))
    d_x, d_w1, d_w2, d_weights, d_bias1, d_bias2 = ctx.results
    biases = ctx.operand("bias1"), ctx.operand("bias2")
    (tokens, model), topk, experts = x.shape, ctx.operand("topk_ids").shape[1], w1.shape[0]
    slots, wide, inter = tokens * topk, w1.shape[1], w2.shape[2]
    sizes = {"use_fp8_w8a8": False, "use_int4_w4a16": False, "M": tokens}
    config = ctx.tiled(get_optimal_moe_config(x.dtype, **sizes))
    second = ctx.tiled(config, "stage2")
    held = ctx.operand("topk_ids"), ctx.operand("expert_mask"), experts, ctx.operand("num_local_tokens")
    found = glue_sort.sorted_slots(*held, config["BLOCK_SIZE_M"], places=True)
    rows, places, starts, counts = found.order.numel(), found.places, found.starts, found.totals
    assert places is not None
    assert starts is not None
    assert counts is not None
    routing = found.order, found.blocks, found.taken

    def half(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=x.dtype, device="meta")

    gate_up = ctx.operand("gate_up")
    if gate_up is None:
        gate_up = half(slots, 1, wide)
        moe.plain_product(ctx, x, w1, gate_up, routing, config, topk)
    q = half(slots, 1, inter)
    moe.plain_product(ctx, d_out, w2.transpose(1, 2), q, routing, config, topk)
    d_u, weighted, sorted_weights = glue_pull.pull(
        gate_up.view(slots, wide),
        q.view(slots, inter),
        ctx.operand("topk_weight"),
        found.local,
        places,
        d_out,
        biases,
        d_weights,
        rows,
        num_experts=experts,
        activation=spec.params["activation"],
        limit=moe.limit(spec) if moe.gated(spec) else None,
        interleaved=moe.interleaved(spec),
    )
    held_rows = half(rows, 1, model)  # one array of sorted rows after the other
    moe.plain_product(ctx, d_u, w1.transpose(1, 2), held_rows, (glue.iota(rows), *routing[1:]), second, 1)
    held_rows = held_rows.view(rows, model)
    glue.sum_slots(held_rows, d_x, found.local, experts, places=places, slots=topk)
    outer = config_of(ctx, "ptgmm", slots, wide, model, experts, part="weights")
    by_slot = found.local, places, held_rows, experts
    glue_outer.outer(d_u, glue_pull.placed(x, *by_slot), starts, counts, d_w1, outer)
    cotangents = glue_pull.placed(d_out, *by_slot)
    glue_outer.outer(cotangents, weighted, starts, counts, d_w2, outer)
    if biases[0] is not None:
        glue_sums.sums(d_u, starts, counts, d_bias1)
    if biases[1] is not None:
        glue_sums.sums(cotangents, starts, counts, d_bias2, sorted_weights)
    return ctx.results
