"""fused_moe around AITER's one-stage kernels: quantise the hidden states, sort the routing, clear the output, launch.

What another family of one-stage kernels gives to `one_stage` is its `OneStage` and a function from the op's operands to the
struct's inputs. Quantising and sorting are AITER's HIP kernels, recorded, where they can be had, and XLA's elsewhere;
docs/asm-moe-steps.md has the measurements behind that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.moe import steps
from jax_aiter.kernels.asm.moe.launch import OneStage, global_experts, launch_plan, sorted_blocks
from jax_aiter.kernels.asm.moe.sort import PLAIN_PADDING, SEP_OFFSET, plain_routing, sort_routing
from jax_aiter.kernels.provider import Call, Program
from jax_aiter.ops.moe.formats import quant

Operands = Mapping[str, jax.Array]
Prepare = Callable[[Operands], Mapping[str, jax.Array]]


class Activations(NamedTuple):
    """Hidden states as a kernel takes them, and their scales."""

    values: jax.Array
    scale: jax.Array


Structs = Mapping[str, jax.ShapeDtypeStruct]


def one_stage(
    call: Call, stage: OneStage, prepare: Prepare, prepared: Structs | None = None, recorded: steps.Recorded | None = None
) -> Program:
    """The whole call on one kernel.

    prepare: ``operands -> {"X": ..., "XQ": ..., "GUQ": ..., "DQ": ...}``: inputs by the names of the struct's pointers, without
        those that the kernel does not take. GU and D are w1 and w2 unless named; the routing is added here.
    prepared: the shapes of what it returns, in order; found by tracing it if not given.
    recorded: AITER's kernels that sort, and quantise X and XQ if they leave those, where they can be had; else XLA's do.
    """
    before = None if recorded is None else recorded.before()

    def inputs(operands: Operands) -> dict[str, jax.Array]:
        found = {"GU": operands["w1"], "D": operands["w2"], **prepare(operands)}
        if recorded is not None and before is not None:
            return {**found, **recorded.arrays(operands)}
        return {**found, **routing(call, stage, operands)}

    # Tracing the routing for its shapes alone would take longer than the rest of the plan.
    given: dict[str, jax.ShapeDtypeStruct] = {"GU": call.operands["w1"], "D": call.operands["w2"]}
    given |= jax.eval_shape(prepare, dict(call.operands)) if prepared is None else prepared
    if recorded is not None and before is not None:
        shapes = {**{name: x for name, x in given.items() if name not in before.results}, **recorded.structs()}
    else:
        shapes = {**given, **_routing_structs(call, stage)}
    plan = launch_plan(call, stage, shapes, before)

    def run(operands: Operands) -> list[jax.Array]:
        from jax_aiter.kernels.call import call_plan  # only where a kernel runs: it loads the native module

        found = inputs(operands)
        return call_plan(plan, *(found[name] for name in shapes), result_shape_dtypes=call.results)

    return Program((plan,), run)


def routing(call: Call, stage: OneStage, operands: Operands) -> dict[str, jax.Array]:
    """The struct's lists, as XLA's kernels make them."""
    ids, weights = operands["topk_ids"], operands["topk_weight"]
    experts, mask, local = operands["w1"].shape[0], operands.get("expert_mask"), operands.get("num_local_tokens")
    if stage.flat:
        return plain_routing(ids, weights, experts, mask, local)
    tokens, topk = ids.shape
    blocks = sorted_blocks(tokens, topk, global_experts(call), stage.block)
    return sort_routing(ids, weights, experts, stage.block, blocks, mask, local)


def _routing_structs(call: Call, stage: OneStage) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of what `routing` returns, in its order."""
    tokens, topk = call.operands["topk_ids"].shape
    if stage.flat:
        sizes = {"STP": ((tokens * topk + PLAIN_PADDING,), jnp.int32), "SW": ((tokens * topk + PLAIN_PADDING,), jnp.float32)}
    else:
        blocks = sorted_blocks(tokens, topk, global_experts(call), stage.block)
        sizes = {"ROWS": ((2, blocks * stage.block), jnp.int32), "BLOCKS": ((SEP_OFFSET + blocks,), jnp.int32)}
    return {name: jax.ShapeDtypeStruct(*size) for name, size in sizes.items()}


def quantised_structs(call: Call) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of `quantised`, as X and XQ."""
    x, blocks = call.operands["hidden_states"], call.params["quant_type"] == "per_1x128"
    scale = (x.shape[1] // quant.GROUP, x.shape[0]) if blocks else (x.shape[0], 1)
    return {"X": jax.ShapeDtypeStruct(x.shape, call.operands["w1"].dtype), "XQ": jax.ShapeDtypeStruct(scale, jnp.float32)}


def per_slot_structs(call: Call) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of hidden states quantised per token for each slot, all first slots first, as X and XQ."""
    rows, dim = call.operands["topk_ids"].size, call.operands["w1"].shape[2]
    x = jax.ShapeDtypeStruct((rows, dim), call.operands["w1"].dtype)
    return {"X": x, "XQ": jax.ShapeDtypeStruct((rows, 1), jnp.float32)}


def quantised(operands: Operands, quant_type: str) -> Activations:
    """The hidden states in the weights' 8-bit dtype.

    per_token: scale float32 ``[T, 1]``; per_1x128: ``[D/128, T]``, as AITER's kernels read it.
    """
    hidden, scale, dtype = operands["hidden_states"], operands.get("a1_scale"), operands["w1"].dtype
    if hidden.dtype != dtype:
        hidden, scale = quant.quantize(hidden.astype(jnp.float32), quant_type, dtype)
    assert scale is not None
    return Activations(hidden, scale.T if quant_type == "per_1x128" else scale)
