"""fused_moe around AITER's one-stage kernels: quantise the hidden states, sort the routing, clear the output, launch.

What another family of one-stage kernels gives to `one_stage` is its `OneStage` and a function from the op's operands to the
struct's inputs. Quantising and sorting are XLA's; docs/asm-moe-steps.md has the measurements behind that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.ops._moe_launch import OneStage, global_experts, launch_plan, sorted_blocks
from jax_aiter.kernels.asm.ops._moe_sort import plain_routing, sort_routing
from jax_aiter.kernels.provider import Call, Program
from jax_aiter.ops import _moe_quant

Operands = Mapping[str, jax.Array]
Prepare = Callable[[Operands], Mapping[str, jax.Array]]


class Activations(NamedTuple):
    """Hidden states as a kernel takes them, and their scales."""

    values: jax.Array
    scale: jax.Array


def one_stage(call: Call, stage: OneStage, prepare: Prepare) -> Program:
    """The whole call on one kernel.

    prepare: ``operands -> {"X": ..., "XQ": ..., "GUQ": ..., "DQ": ...}``: inputs by the names of the struct's pointers, without
        those that the kernel does not take. GU and D are w1 and w2 unless named; the routing is added here.
    """

    def inputs(operands: Operands) -> dict[str, jax.Array]:
        found = {"GU": operands["w1"], "D": operands["w2"], **prepare(operands)}
        return {**found, **_routing(call, stage, operands)}

    shapes = jax.eval_shape(inputs, dict(call.operands))
    plan = launch_plan(call, stage, shapes)

    def run(operands: Operands) -> list[jax.Array]:
        from jax_aiter.kernels.call import call_plan  # only where a kernel runs: it loads the native module

        found = inputs(operands)
        return call_plan(plan, *(found[name] for name in shapes), result_shape_dtypes=call.results)

    return Program((plan,), run)


def _routing(call: Call, stage: OneStage, operands: Operands) -> dict[str, jax.Array]:
    ids, weights = operands["topk_ids"], operands["topk_weight"]
    experts, mask, local = operands["w1"].shape[0], operands.get("expert_mask"), operands.get("num_local_tokens")
    if stage.flat:
        return plain_routing(ids, weights, experts, mask, local)
    tokens, topk = ids.shape
    blocks = sorted_blocks(tokens, topk, global_experts(call), stage.block)
    return sort_routing(ids, weights, experts, stage.block, blocks, mask, local)


def quantised(operands: Operands, quant_type: str) -> Activations:
    """The hidden states in the weights' 8-bit dtype.

    per_token: scale float32 ``[T, 1]``; per_1x128: ``[D/128, T]``, as AITER's kernels read it.
    """
    hidden, scale, dtype = operands["hidden_states"], operands.get("a1_scale"), operands["w1"].dtype
    if hidden.dtype != dtype:
        hidden, scale = _moe_quant.quantize(hidden.astype(jnp.float32), quant_type, dtype)
    assert scale is not None
    return Activations(hidden, scale.T if quant_type == "per_1x128" else scale)
