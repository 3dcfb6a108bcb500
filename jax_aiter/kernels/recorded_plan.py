"""A worker's record (JSON) as a LaunchPlan: what records of every kind of kernels have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.cache import get_code
from jax_aiter.kernels.plan import LaunchPlan

#: what was promised of each address to the code that recorded: AITER's host code and Triton choose wider loads by it.
ALIGNMENT = 16

Launch = Callable[[PlanBuilder, dict[str, Any], bytes], None]


class MissingCode(LookupError):
    """A code object named by a record is gone from the cache: the record must be made again."""


def to_plan(record: dict[str, Any], operand_names: tuple[str, ...], root: Path, launch: Launch) -> LaunchPlan:
    """The plan for one record; `launch` adds a step that launches, whose code object it is given. MissingCode: see there."""
    builder = PlanBuilder(record["op"], record["arch"])
    for buffer in record["buffers"]:
        kind, index, nbytes = buffer["kind"], buffer["index"], buffer["nbytes"]
        if kind == "operand":
            builder.operand(nbytes, alignment=ALIGNMENT, name=operand_names[index])
        elif kind == "result":
            builder.result(nbytes, alignment=ALIGNMENT, name=f"result{index}")
        else:
            builder.scratch(nbytes, alignment=ALIGNMENT, name=f"scratch{index}")
    for operand, result in record.get("aliases", ()):
        builder.alias(operand, result)
    for step in record["steps"]:
        _add_step(builder, step, root, launch)
    return builder.build()


def _add_step(builder: PlanBuilder, step: dict[str, Any], root: Path, launch: Launch) -> None:
    if step["step"] == "fill":
        buffer, offset = step["target"]
        builder.fill(buffer, value=step["value"], width=step["width"], byte_offset=offset, nbytes=step["nbytes"])
    elif step["step"] == "copy":
        (dst, dst_offset), (src, src_offset) = step["target"], step["source"]
        builder.copy(dst, src, nbytes=step["nbytes"], dst_offset=dst_offset, src_offset=src_offset)
    elif step["step"] != "launch":
        raise ValueError(f"a step called {step['step']!r}")
    else:
        code = get_code(root, step["code"])
        if code is None:
            raise MissingCode(f"its code object {step['code']} is gone")
        launch(builder, step, code)
