"""The custom call that carries a launch plan: emitted from a lowering rule, or directly from traced code."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import export
from jax.core import ShapedArray

from jax_aiter.kernels import _native
from jax_aiter.kernels.args import require
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.plan.encode import encode

CUSTOM_CALL_TARGETS: tuple[str, ...] = (_native.TARGET_NAME,)
"""Names of the custom calls this package emits. They are versioned and stay valid: see `export_checks`."""


def export_checks() -> list[export.DisabledSafetyCheck]:
    """What to pass to `jax.export.export(..., disabled_checks=...)` for a function that uses our kernels."""
    return [export.DisabledSafetyCheck.custom_call(name) for name in CUSTOM_CALL_TARGETS]


def attributes(plan: LaunchPlan) -> dict[str, str]:
    """The custom call's attributes. `op`, `arch` and `kernels` are for whoever reads the compiled program's text."""
    return {
        "op": plan.op,
        "arch": plan.arch,
        "kernels": ", ".join(plan.kernels),
        "digest": plan.digest[:16],
        "plan": base64.b64encode(encode(plan)).decode("ascii"),
    }


def lower_plan(ctx: Any, plan: LaunchPlan, *operands: Any) -> Sequence[Any]:
    """Lowering rule body: emits the custom call for `plan` and returns the values of its results, scratch dropped.

    `ctx` is the `LoweringRuleContext` of the primitive being lowered; its avals are the plan's operands and results,
    in order, and must have the plan's byte sizes (`PlanError`).
    """
    check_avals(plan, ctx.avals_in, ctx.avals_out)
    scratch = [ShapedArray((b.nbytes,), np.dtype(np.uint8)) for b in plan.scratch]
    rule = jax.ffi.ffi_lowering(_native.TARGET_NAME, operand_output_aliases=dict(plan.aliases))
    results = rule(ctx.replace(avals_out=[*ctx.avals_out, *scratch]), *operands, **attributes(plan))
    return list(results)[: len(plan.results)]


def call_plan(
    plan: LaunchPlan, *operands: Any, result_shape_dtypes: Sequence[Any], has_side_effect: bool = False
) -> list[jax.Array]:
    """Runs `plan` on arrays, inside or outside `jit`; `result_shape_dtypes` are the results without scratch.

    has_side_effect: XLA runs it as often as it is written, though its results are equal or not used.

    There is no batching, differentiation or sharding rule: ops have those, this is the bare call.
    """
    check_avals(plan, operands, result_shape_dtypes)
    scratch = [jax.ShapeDtypeStruct((b.nbytes,), np.uint8) for b in plan.scratch]
    how: Any = {"input_output_aliases": dict(plan.aliases), "has_side_effect": has_side_effect}
    call = jax.ffi.ffi_call(_native.TARGET_NAME, [*result_shape_dtypes, *scratch], **how)
    return list(call(*operands, **attributes(plan)))[: len(plan.results)]


def nbytes(aval: Any) -> int:
    """Device bytes of an array or abstract value; 4-bit types are packed two to a byte, as XLA stores them."""
    bits = 4 if aval.dtype.name in ("int4", "uint4", "float4_e2m1fn") else 8 * aval.dtype.itemsize
    return (int(np.prod(aval.shape, dtype=np.int64)) * bits + 7) // 8


def check_avals(plan: LaunchPlan, operands: Sequence[Any], results: Sequence[Any]) -> None:
    for kind, avals, buffers in (("operand", operands, plan.operands), ("result", results, plan.results)):
        require(len(avals) == len(buffers), f"plan {plan.op}: {len(avals)} {kind}s, the plan has {len(buffers)}")
        for aval, buffer in zip(avals, buffers, strict=True):
            require(
                nbytes(aval) == buffer.nbytes,
                f"plan {plan.op}: {kind} {buffer.index} is {aval.dtype.name}{list(aval.shape)}, {nbytes(aval)} bytes; "
                f"the plan has {buffer}",
            )
