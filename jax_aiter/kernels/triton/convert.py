"""A worker's record (JSON) as a LaunchPlan: code objects are read from the cache and embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jax_aiter.kernels.args import Pointer, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.cache import get_code
from jax_aiter.kernels.plan import LaunchPlan

#: what kernels specialised by Triton rely on: pointers divisible by 16 unless an offset says otherwise.
ALIGNMENT = 16
#: Triton's two trailing arguments (global and profile scratch), both empty for the kernels that are accepted.
TRAILING = (Scalar("u64", 0), Scalar("u64", 0))


class MissingCode(LookupError):
    """A code object named by a record is gone from the cache: the record must be made again."""


def to_plan(record: dict[str, Any], operand_names: tuple[str, ...], root: Path) -> LaunchPlan:
    """The plan for one record. Raises MissingCode when the cache lost a code object."""
    builder = PlanBuilder(record["op"], record["arch"])
    for buffer in record["buffers"]:
        if buffer["kind"] == "operand":
            builder.operand(buffer["nbytes"], alignment=ALIGNMENT, name=operand_names[buffer["index"]])
        elif buffer["kind"] == "result":
            builder.result(buffer["nbytes"], alignment=ALIGNMENT, name=f"result{buffer['index']}")
        else:
            builder.scratch(buffer["nbytes"], alignment=ALIGNMENT, name=f"scratch{buffer['index']}")
    for operand, result in record.get("aliases", ()):
        builder.alias(operand, result)
    for step in record["steps"]:
        _add_step(builder, step, root)
    return builder.build()


def _add_step(builder: PlanBuilder, step: dict[str, Any], root: Path) -> None:
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
            raise MissingCode(step["code"])
        args = [Pointer(*rest) if kind == "ptr" else Scalar(kind, *rest) for kind, *rest in step["args"]]
        block = (step["threads"], 1, 1)
        builder.launch(code, step["symbol"], tuple(step["grid"]), block, step["shared"], [*args, *TRAILING])
