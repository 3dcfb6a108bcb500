"""The printed form of a launch plan: what `print(plan)` and `jax-aiter kernels list` show."""

from __future__ import annotations

from jax_aiter.kernels.plan.content import PlanContent
from jax_aiter.kernels.plan.steps import Address, Copy, Fill, Launch, Step


def format_plan(plan: PlanContent, digest: str) -> str:
    lines = [f"LaunchPlan {plan.op} for {plan.arch}, {digest[:12]}"]
    lines += [f"  {i:3d}: {buffer}" for i, buffer in enumerate(plan.buffers)]
    lines += [f"  alias operand[{operand}] -> result[{result}]" for operand, result in plan.aliases]
    for i, step in enumerate(plan.steps):
        head, *rest = _format_step(plan, step)
        lines += [f"  step {i}: {head}", *(f"    {line}" for line in rest)]
    return "\n".join(lines)


def _format_step(plan: PlanContent, step: Step) -> list[str]:
    match step:
        case Fill():
            value = f"{step.value:#0{2 + 2 * step.width}x}"
            return [f"fill {_place(plan, step.buffer, step.byte_offset)} with {value}, {step.nbytes} bytes"]
        case Copy():
            dst, src = _place(plan, step.dst, step.dst_offset), _place(plan, step.src, step.src_offset)
            return [f"copy {src} -> {dst}, {step.nbytes} bytes"]
        case Address():
            place, target = _place(plan, step.buffer, step.byte_offset), _place(plan, step.target, step.target_offset)
            return [f"store &{target} -> {place}"]
        case Launch():
            return [
                f"launch {step.symbol} grid {step.grid} block {step.block} shared {step.shared_bytes} of {step.code!r}",
                *_format_args(plan, step),
            ]


def _format_args(plan: PlanContent, step: Launch) -> list[str]:
    pointers = {slot.offset: slot for slot in step.args.pointers}
    lines = []
    for param in step.args.params:
        if param.offset in pointers:
            slot = pointers[param.offset]
            text = "&" + _place(plan, slot.buffer, slot.byte_offset)
        else:
            data = step.args.blob[param.offset : param.offset + param.size]
            text = f"0x{data[::-1].hex()}" if len(data) <= 8 else data.hex(" ", 4)  # scalars as the number they are
        lines.append(f"+{param.offset:<4d} {text}")
    return lines


def _place(plan: PlanContent, buffer: int, offset: int) -> str:
    b = plan.buffers[buffer]
    name = b.name or f"{b.kind}[{b.index}]"
    return f"{name}+{offset}" if offset else name
