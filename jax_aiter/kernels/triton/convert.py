"""A worker's record of Triton kernels as a LaunchPlan: their launches; the rest is `recorded_plan`'s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jax_aiter.kernels import recorded_plan
from jax_aiter.kernels.args import Pointer, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.plan import LaunchPlan

#: Triton's two trailing arguments (global and profile scratch), both empty for the kernels that are accepted.
TRAILING = (Scalar("u64", 0), Scalar("u64", 0))


def to_plan(record: dict[str, Any], operand_names: tuple[str, ...], root: Path) -> LaunchPlan:
    """The plan for one record. Raises MissingCode when the cache lost a code object."""
    return recorded_plan.to_plan(record, operand_names, root, _launch)


def _launch(builder: PlanBuilder, step: dict[str, Any], code: bytes) -> None:
    args = [Pointer(*rest) if kind == "ptr" else Scalar(kind, *rest) for kind, *rest in step["args"]]
    block = (step["threads"], 1, 1)
    builder.launch(code, step["symbol"], tuple(step["grid"]), block, step["shared"], [*args, *TRAILING])
