"""A worker's record (JSON) as a LaunchPlan: code objects are read from the cache and embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jax_aiter.kernels.args import KernelArgs, Param, PointerSlot
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.cache import get_code
from jax_aiter.kernels.plan import LaunchPlan

#: what was promised to AITER's host code of each address, which chooses wider loads by it.
ALIGNMENT = 16


def to_plan(record: dict[str, Any], operand_names: tuple[str, ...], root: Path) -> LaunchPlan:
    """The plan for one record. LookupError when the cache lost a code object: the record must be made again."""
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
            raise LookupError(f"its code object {step['code']} is gone")
        pointers = tuple(PointerSlot(*slot) for slot in step["pointers"])
        args = KernelArgs(bytes.fromhex(step["arguments"]), pointers, tuple(Param(*param) for param in step["params"]))
        builder.launch_packed(code, step["symbol"], step["grid"], step["block"], step["shared"], args)
