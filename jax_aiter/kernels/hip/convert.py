"""A worker's record of HIP kernels as a LaunchPlan: their launches; the rest is `recorded_plan`'s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jax_aiter.kernels import recorded_plan
from jax_aiter.kernels.args import KernelArgs, Param, PointerSlot
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.plan import LaunchPlan


def to_plan(record: dict[str, Any], operand_names: tuple[str, ...], root: Path) -> LaunchPlan:
    """The plan for one record. Raises MissingCode when the cache lost a code object."""
    return recorded_plan.to_plan(record, operand_names, root, _launch)


def _launch(builder: PlanBuilder, step: dict[str, Any], code: bytes) -> None:
    pointers = tuple(PointerSlot(*slot) for slot in step["pointers"])
    args = KernelArgs(bytes.fromhex(step["arguments"]), pointers, tuple(Param(*param) for param in step["params"]))
    builder.launch_packed(code, step["symbol"], step["grid"], step["block"], step["shared"], args)
