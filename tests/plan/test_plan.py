"""The rules of LaunchPlan, its printed form, equality and digest."""

import dataclasses

import pytest
from hypothesis import given

from jax_aiter.kernels.args import KernelArgs, Pointer, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.plan import Address, Buffer, CodeObject, Copy, Fill, Launch, LaunchPlan, PlanError
from tests.plan.samples import add_constant_plan, plans

X, OUT = Buffer("operand", 0, 64, 16, "x"), Buffer("result", 0, 64)
NO_ARGS = KernelArgs(b"")


def launch(**changes) -> Launch:
    return dataclasses.replace(Launch(CodeObject(b"code"), "k", (1, 1, 1), (64, 1, 1), 0, NO_ARGS), **changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Buffer("input", 0, 4), "buffer kind 'input': expected one of operand, result, scratch"),
        (lambda: Buffer("operand", 0, 4, 3), "alignment must be a power of two"),
        (lambda: Buffer("operand", 0, -1), "nbytes must be in"),
        (lambda: Buffer("operand", 0, 4, 1, "\u00fc"), "must be printable ASCII"),
        (lambda: CodeObject(b""), "code object: it is empty"),
        (lambda: LaunchPlan("f", "mock", (Buffer("operand", 1, 4),), ()), r"operand buffers have indices \[1\]"),
        (lambda: LaunchPlan("", "mock", (), ()), "op '' must be printable ASCII"),
        (lambda: LaunchPlan("f", "mock", (X,), (Fill(1, 0, 4),)), "step 0: buffer 1, the plan has 1"),
        (lambda: LaunchPlan("f", "mock", (X,), (Fill(0, 60, 8),)), r"bytes 60 .. 68 lie outside operand\[0\] x"),
        (lambda: LaunchPlan("f", "mock", (X,), (Fill(0, 0, 64, 256),)), "fill value 256 does not fit in 1 bytes"),
        (lambda: LaunchPlan("f", "mock", (X,), (Fill(0, 0, 64, 0, 3),)), "fill width 3, expected 1, 2 or 4"),
        (lambda: LaunchPlan("f", "mock", (X,), (Fill(0, 2, 6, 0, 4),)), "multiple of its width of 4"),
        (lambda: LaunchPlan("f", "mock", (X,), (Copy(0, 0, 0, 8, 16),)), "source and destination of the copy overlap"),
        (lambda: LaunchPlan("f", "mock", (X, OUT), (Copy(1, 0, 0, 8, 16),), ((0, 0),)), "overlap"),
        (lambda: LaunchPlan("f", "mock", (X, OUT), (Address(0, 60, 1),)), r"bytes 60 .. 68 lie outside operand\[0\] x"),
        (lambda: LaunchPlan("f", "mock", (X, OUT), (Address(0, 4, 1),)), "stored at byte 4, expected a multiple of 8"),
        (lambda: LaunchPlan("f", "mock", (X, OUT), (Address(0, 0, 2),)), "buffer 2, the plan has 2"),
        (lambda: LaunchPlan("f", "mock", (X, OUT), (Address(0, 0, 1, 65),)), "lie outside result"),
        (lambda: LaunchPlan("f", "mock", (X, OUT), (), ((0, 1),)), "alias operand 0 -> result 1: there are 1 results"),
        (lambda: LaunchPlan("f", "mock", (X, Buffer("result", 0, 4)), (), ((0, 0),)), r"sizes differ \(64 and 4 bytes\)"),
        (lambda: LaunchPlan("f", "mock", (X, OUT, Buffer("result", 1, 64)), (), ((0, 0), (0, 1))), "aliased more than once"),
        (lambda: LaunchPlan("f", "mock", (), (launch(grid=(0, 1, 1)),)), r"kernel k: grid \(0, 1, 1\), expected three"),
        (lambda: LaunchPlan("f", "mock", (), (launch(block=(1024, 2, 1)),)), "2048 threads, more than 1024"),
        (lambda: LaunchPlan("f", "sm_90", (), (launch(grid=(1, 65536, 1)),)), "exceeds CUDA's limit"),
        (lambda: LaunchPlan("f", "gfx942", (), (launch(grid=(2**27, 1, 1)),)), "work-items per dimension"),
        (lambda: LaunchPlan("f", "mock", (), (launch(symbol=""),)), "is not a kernel name"),
        (lambda: LaunchPlan("f", "mock", (), (launch(shared_bytes=-1),)), "shared_bytes -1"),
        (lambda: LaunchPlan("f", "mock", (X,), (launch(args=KernelArgs.pack([Pointer(0, 65)])),)), "lie outside operand"),
        (lambda: LaunchPlan("f", "mock", tuple(Buffer("scratch", i, 1) for i in range(257)), ()), "257 buffers, at most 256"),
    ],
)
def test_rules(make, message):
    with pytest.raises(PlanError, match=message):
        make()


def test_same_grid_allowed_where_the_device_allows_it():
    LaunchPlan("f", "sm_90", (), (launch(grid=(2**31 - 1, 65535, 65535)),))
    LaunchPlan("f", "gfx942", (), (launch(grid=(2**26 - 1, 70000, 1)),))


def test_adjacent_and_distinct_copies_are_allowed():
    LaunchPlan("f", "mock", (X,), (Copy(0, 0, 0, 32, 32),))
    LaunchPlan("f", "mock", (X, OUT), (Copy(1, 0, 0, 0, 64),))


@given(plans())
def test_equal_plans_have_equal_hash_and_digest(plan):
    twin = dataclasses.replace(plan, op=str(plan.op))
    assert twin == plan
    assert hash(twin) == hash(plan)
    assert twin.digest == plan.digest
    assert dataclasses.replace(plan, op=plan.op + "x").digest != plan.digest


def test_digest_is_the_same_everywhere():
    # A golden value: a change means that cached plans of older versions are no longer found, which must be meant.
    assert add_constant_plan(4, 7).digest == "0eea6ff9fb3457bc0ab70bc094905be1d10ac178d252007a3e1f2f51abf0e26c"


def test_digest_sees_the_code_object():
    assert add_constant_plan(4, 7).digest != add_constant_plan(4, 7, filler=b"x").digest


def test_printed_form():
    b = PlanBuilder("demo", "gfx942")
    x, out = b.operand(64, 16, "x"), b.result(64, 16, "out")
    tmp = b.scratch(128)
    b.alias(x, out)
    b.fill(tmp, 0xBEEF, width=2, byte_offset=64)
    b.copy(tmp, x)
    b.launch(b"code", "kern", [4], [64], 32, [Pointer(out, 16), Scalar("i32", -3)])
    plan = b.build()
    assert str(plan).splitlines() == [
        f"LaunchPlan demo for gfx942, {plan.digest[:12]}",
        "    0: operand[0] x (64 bytes, align 16)",
        "    1: result[0] out (64 bytes, align 16)",
        "    2: scratch[0] (128 bytes, align 16)",
        "  alias operand[0] -> result[0]",
        "  step 0: fill scratch[0]+64 with 0xbeef, 64 bytes",
        "  step 1: copy x -> scratch[0], 64 bytes",
        "  step 2: launch kern grid (4, 1, 1) block (64, 1, 1) shared 32 of CodeObject(5694d08a2e53, 4 bytes)",
        "    +0    &out+16",
        "    +8    0xfffffffd",
    ]


def test_builder_refuses_a_wrong_alias():
    b = PlanBuilder("demo", "mock")
    x, tmp = b.operand(4), b.scratch(4)
    with pytest.raises(PlanError, match="alias: buffer 1 is a scratch, expected a result"):
        b.alias(x, tmp)


def test_kernels_and_code_objects():
    b = PlanBuilder("demo", "mock")
    for code, symbol in ((b"a", "k1"), (b"b", "k2"), (b"a", "k3")):
        b.launch(code, symbol, [1], [1], 0, [])
    plan = b.build()
    assert plan.kernels == ("k1", "k2", "k3")
    assert [c.data for c in plan.code_objects] == [b"a", b"b"]
