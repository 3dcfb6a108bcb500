"""A plan as part of another: its steps on the other's buffers, in their place among the other's own."""

import pytest

from jax_aiter.kernels.args import Pointer, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.plan import Address, Copy, Fill, Launch, PlanError


def part():
    """Of two operands and a result, with scratch; every kind of step names each of them somewhere."""
    builder = PlanBuilder("part", "gfx942")
    left, right, out, room = builder.operand(16), builder.operand(8), builder.result(32), builder.scratch(64, name="room")
    builder.fill(room, 7, width=4, byte_offset=8, nbytes=16)
    builder.copy(out, left, nbytes=8, dst_offset=4, src_offset=2)
    builder.address(room, 24, Pointer(right, 4))
    builder.launch(b"code", "k", (3,), (64,), 0, [Pointer(left), Scalar("i32", 5), Pointer(out, 8), Pointer(room)])
    return builder.build()


def test_steps_are_on_the_other_plans_buffers():
    builder = PlanBuilder("whole", "gfx942")
    other, right, left = builder.operand(4), builder.operand(8), builder.operand(16)
    result, middle = builder.result(32), builder.scratch(40)
    builder.fill(result)
    builder.include(part(), [left, right], [middle])
    builder.copy(result, middle, nbytes=32)
    plan = builder.build()
    room = 5
    assert [(b.kind, b.nbytes, b.name) for b in plan.buffers][room:] == [("scratch", 64, "room")]
    first, fill, copy, address, launch, last = plan.steps
    assert first == Fill(result, 0, 32)
    assert fill == Fill(room, 8, 16, 7, 4)
    assert copy == Copy(middle, 4, left, 2, 8)
    assert address == Address(room, 24, right, 4)
    assert isinstance(launch, Launch)
    assert [(slot.buffer, slot.byte_offset) for slot in launch.args.pointers] == [(left, 0), (middle, 8), (room, 0)]
    original = part().steps[3]
    assert isinstance(original, Launch)
    assert (launch.args.blob, launch.args.params, launch.grid) == (original.args.blob, original.args.params, original.grid)
    assert last == Copy(result, 0, middle, 0, 32)
    assert other not in {n for step in plan.steps[1:5] for n, *_ in step.accesses()}


def test_a_buffer_that_is_too_small_is_refused():
    builder = PlanBuilder("whole", "gfx942")
    numbers = [builder.operand(16), builder.operand(4)]
    with pytest.raises(PlanError, match="stands for a buffer of 4 bytes"):
        builder.include(part(), numbers, [builder.scratch(32)])


def test_a_plan_that_writes_an_operand_in_place_is_refused():
    inner = PlanBuilder("part", "gfx942")
    inner.alias(inner.operand(8), inner.result(8))
    inner.fill(1)
    builder = PlanBuilder("whole", "gfx942")
    with pytest.raises(PlanError, match="writes its operands in place"):
        builder.include(inner.build(), [builder.operand(8)], [builder.scratch(8)])
