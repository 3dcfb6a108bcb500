"""Runs a case through its plan's custom call, under jit."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from benchmarks.h200.case import Arrays, Case
from jax_aiter.core.config import config
from jax_aiter.kernels.call import CUSTOM_CALL_TARGETS, call_plan
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.triton.adapters import adapters
from jax_aiter.kernels.triton.provider import plan_for
from jax_aiter.ops.catalogue import all_ops


def plan_of(case: Case, arrays: Arrays, arch: str) -> LaunchPlan:
    """The plan; RuntimeError if the provider's own rule refuses the case (cases are meant to be covered)."""
    spec = case.spec(arrays, arch)
    reason = adapters()[case.op].refuse(spec)
    if reason is not None:
        raise RuntimeError(f"{case.label} is refused: {reason}")
    return plan_for(spec)


def through_plan(case: Case, arrays: Arrays, arch: str) -> Any:
    """A jitted function of the arrays that makes the bare custom call."""
    return call_of(plan_of(case, arrays, arch), case, arrays)


def call_of(plan: LaunchPlan, case: Case, arrays: Arrays) -> Any:
    """The same for a plan at hand."""
    results = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in case.results(arrays)]
    return jax.jit(lambda *values: call_plan(plan, *values, result_shape_dtypes=results))


def through_op(case: Case, arrays: Arrays, arch: str, implementation: str | None) -> Any:
    """A jitted function of the arrays that calls the public record."""
    record = all_ops()[case.op]
    names = tuple(arrays)
    params: dict[str, Any] = dict(case.params)

    def function(*values):
        with config(arch=arch):
            return record(**dict(zip(names, values, strict=True)), **params, implementation=implementation)

    return jax.jit(function)


def runs_plan(program: Any) -> bool:
    """Whether a lowered or compiled program holds our custom call."""
    text = program.as_text()
    return any(name in text for name in CUSTOM_CALL_TARGETS)


def run(function: Any, arrays: Arrays) -> list[np.ndarray]:
    """Results as numpy; RuntimeError if the compiled program does not hold our custom call."""
    values = [jax.numpy.asarray(value) for value in arrays.values()]
    compiled = function.lower(*values).compile()
    if not runs_plan(compiled):
        raise RuntimeError("the compiled program holds no launch plan: it ran something else")
    return [np.asarray(result) for result in compiled(*values)]
