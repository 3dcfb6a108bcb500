"""The handler end to end on platform "cpu", against the mock driver."""

import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.kernels import _native
from jax_aiter.kernels.args import Pointer, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.call import attributes, call_plan
from jax_aiter.kernels.mock_driver import code_object
from tests.plan.samples import ADD, COPY, add_constant_plan, call_add_constant, u32


def test_data_follows_the_plan(mock):
    x = u32(33)
    out = jax.jit(lambda x: call_add_constant(add_constant_plan(33, 1000), x))(x)
    np.testing.assert_array_equal(out, np.arange(33) + 1000)


def test_records_what_the_plan_says(mock):
    call_add_constant(add_constant_plan(8, 5), u32(8)).block_until_ready()
    fill, launch = mock.records("fill", "launch")
    assert (fill["value"], fill["width"], fill["nbytes"]) == (5, 4, 32)
    assert (launch["symbol"], launch["grid"], launch["block"]) == (ADD, (8, 2, 1), (64, 1, 1))
    assert launch["shared_bytes"] == 96
    out, x, constants, n = struct.unpack("<QQQI", launch["args"])
    assert constants == fill["dst"]
    assert n == 8
    assert len({out, x, constants}) == 3


def test_byte_offsets_scalars_and_steps_in_order(mock):
    """out = [x[2:4], x[0:2]] by two launches with offset pointers, then the last element by a copy from scratch."""
    b = PlanBuilder("rotate", "mock")
    x, out, tmp = b.operand(16, 4), b.result(16, 4), b.scratch(8, 4)
    code = code_object(COPY)
    b.launch(code, COPY, [1], [1], 0, [Pointer(out), Pointer(x, 8), Scalar("u32", 2)])
    b.launch(code, COPY, [1], [1], 0, [Pointer(out, 8), Pointer(x), Scalar("u32", 2)])
    b.fill(tmp, 0x2A2B, width=2)
    b.copy(out, tmp, nbytes=4, dst_offset=12, src_offset=4)
    (y,) = call_plan(b.build(), u32(4), result_shape_dtypes=[jax.ShapeDtypeStruct((4,), jnp.uint32)])
    np.testing.assert_array_equal(y, [2, 3, 0, 0x2A2B2A2B])
    assert [r["call"] for r in mock.records("launch", "fill", "copy")] == ["launch", "launch", "fill", "copy"]


def test_addresses_are_those_of_the_call(mock):
    """A table of two addresses into x, as a launch of the same call receives them in its arguments."""
    b = PlanBuilder("table", "mock")
    # So large that its memory lies above 2^32: what is smaller than 32 MiB may come from the heap, which may lie below.
    x, out = b.operand(64 << 20, 16), b.result(24, 8)
    b.fill(out, 0)
    b.address(out, 0, Pointer(x))
    b.address(out, 16, Pointer(x, 40))
    b.launch(code_object("k"), "k", [1], [1], 0, [Pointer(x)])
    plan, shape = b.build(), jax.ShapeDtypeStruct((6,), jnp.uint32)
    (table,) = call_plan(plan, u32(1 << 24), result_shape_dtypes=[shape])
    (launch,) = mock.records("launch")
    (address,) = struct.unpack("<Q", launch["args"])
    assert struct.unpack("<QQQ", np.asarray(table).tobytes()) == (address, 0, address + 40)
    assert address >> 32  # so that both halves were seen


def test_alias_works_in_place_when_donated(mock):
    b = PlanBuilder("increment", "mock")
    x, out, one = b.operand(4096, 16), b.result(4096, 16), b.scratch(4096, 16)
    b.alias(x, out)
    b.fill(one, 1, width=4)
    b.launch(code_object(ADD), ADD, [1], [1], 0, [Pointer(out), Pointer(x), Pointer(one), Scalar("u32", 1024)])
    plan = b.build()
    shape = jax.ShapeDtypeStruct((1024,), jnp.uint32)
    step = jax.jit(lambda x: call_plan(plan, x, result_shape_dtypes=[shape])[0], donate_argnums=0)
    compiled = step.lower(shape).compile()
    assert "output_to_operand_aliasing={{0}: (0, {})}" in compiled.as_text()
    assert " copy(" not in compiled.as_text()
    x = u32(1024)
    before = x.unsafe_buffer_pointer()
    y = compiled(x)
    assert y.unsafe_buffer_pointer() == before
    np.testing.assert_array_equal(y, np.arange(1024) + 1)


def test_alias_without_donation_leaves_the_input(mock):
    b = PlanBuilder("clear", "mock")
    x, out = b.operand(16, 4), b.result(16, 4)
    b.alias(x, out)
    b.fill(out)
    plan = b.build()
    x = u32(4)
    (y,) = jax.jit(lambda x: call_plan(plan, x, result_shape_dtypes=[x]))(x)
    np.testing.assert_array_equal(y, np.zeros(4))
    np.testing.assert_array_equal(x, np.arange(4))


def test_an_alias_that_is_not_kept_is_copied(mock):
    """XLA's dynamic slice fusion gives slices of a loop's stacked arrays as operand and result, aliased or not."""
    b = PlanBuilder("increment", "mock")
    x, y, one = b.operand(64, 16), b.operand(64, 16), b.scratch(64, 16)
    kept, added = b.result(64, 16), b.result(64, 16)
    b.alias(x, kept)
    b.fill(one, 1, width=4)
    b.launch(code_object(ADD), ADD, [1], [1], 0, [Pointer(x), Pointer(x), Pointer(one), Scalar("u32", 8)])  # half of it
    b.launch(code_object(ADD), ADD, [1], [1], 0, [Pointer(added), Pointer(kept), Pointer(y), Scalar("u32", 16)])
    plan = b.build()
    shape = jax.ShapeDtypeStruct((16,), jnp.uint32)
    scratch = jax.ShapeDtypeStruct((64,), jnp.uint8)
    call = jax.ffi.ffi_call(_native.TARGET_NAME, [shape, shape, scratch])  # no word of an alias
    x, y = u32(16), u32(16) * 100
    before = x.unsafe_buffer_pointer()
    first, second, *_ = jax.jit(lambda x, y: call(x, y, **attributes(plan)))(x, y)
    assert first.unsafe_buffer_pointer() != before
    want = np.arange(16) + (np.arange(16) < 8)
    np.testing.assert_array_equal(x, np.arange(16))
    np.testing.assert_array_equal(first, want)
    np.testing.assert_array_equal(second, want + np.arange(16) * 100)


def test_program_text_names_op_and_kernels(mock):
    compiled = jax.jit(lambda x: call_add_constant(add_constant_plan(4, 1, op="readable"), x)).lower(u32(4)).compile()
    text = compiled.as_text()
    for part in ('custom_call_target="jax_aiter.run_plan.v1"', 'op = "readable"', f'kernels = "{ADD}"', 'arch = "mock"'):
        assert part in text


def test_nothing_but_enqueueing_while_capturing(mock):
    """Graph capture forbids opening, loading and looking up; execution after the first does none of them."""
    f = jax.jit(lambda x: call_add_constant(add_constant_plan(8, 2, filler=b"capture"), x))
    x = f(u32(8)).block_until_ready()
    mock.configure(capturing=True)
    f(x).block_until_ready()
    assert [r["call"] for r in mock.records()] == ["fill", "launch"]
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"(load|open) is not permitted"):  # the check works
        call_add_constant(add_constant_plan(8, 2, filler=b"other"), x).block_until_ready()


def test_identical_code_objects_are_stored_and_loaded_once(mock):
    testing = _native.load().testing
    stored, loaded = testing.code_objects_stored(), testing.modules_loaded("mock")
    filler = b"shared by three executables"
    x = u32(8)
    for constant in (1, 2, 3):
        plan = add_constant_plan(8, constant, filler=filler)
        x = jax.jit(lambda x, plan=plan: call_add_constant(plan, x))(x)
    np.testing.assert_array_equal(x, np.arange(8) + 6)
    assert testing.code_objects_stored() == stored + 1
    assert testing.modules_loaded("mock") == loaded + 1
    assert len(mock.records("load")) == 1


def test_every_device_gets_its_own_module(mock):
    devices = jax.devices("cpu")
    assert len(devices) >= 2
    f = jax.jit(lambda x: call_add_constant(add_constant_plan(8, 1, filler=b"devices"), x))
    for device in devices[:2]:
        y = f(jax.device_put(u32(8), device))
        assert y.devices() == {device}
        np.testing.assert_array_equal(y, np.arange(8) + 1)
    assert [r["device"] for r in mock.records("load")] == [0, 1]
    assert [r["device"] for r in mock.records("launch")] == [0, 1]


def test_sharded_over_devices(mock):
    mesh = jax.make_mesh((4,), ("d",), devices=jax.devices("cpu")[:4], axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")
    body = jax.shard_map(
        lambda x: call_add_constant(add_constant_plan(8, 100), x), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
    np.testing.assert_array_equal(jax.jit(body)(u32(32)), np.arange(32) + 100)
    assert sorted({r["device"] for r in mock.records("launch")}) == [0, 1, 2, 3]


def test_zero_size_buffers(mock):
    b = PlanBuilder("empty", "mock")
    x, out = b.operand(0, 16), b.result(0, 16)
    b.fill(out)
    b.copy(out, x)
    (y,) = call_plan(b.build(), u32(0), result_shape_dtypes=[u32(0)])
    assert y.shape == (0,)
    assert mock.records("fill", "copy") == []


def test_four_bit_types_are_counted_packed(mock):
    b = PlanBuilder("nibbles", "mock")
    b.operand(4, 1)
    out = b.result(4, 4)
    b.fill(out, 9)
    x = jnp.zeros(8, jnp.int4)
    (y,) = call_plan(b.build(), x, result_shape_dtypes=[jax.ShapeDtypeStruct((1,), jnp.uint32)])
    assert y[0] == 0x09090909


def test_threads_compile_and_run_at_once(mock):
    mock.configure(record=False)
    barrier = threading.Barrier(4)

    def work(seed: int) -> None:
        barrier.wait()
        for i in range(12):
            plan = add_constant_plan(8, seed + i, filler=b"threads %d" % (i % 3))
            f = jax.jit(lambda x, plan=plan: call_add_constant(plan, x))
            for _ in range(5):
                np.testing.assert_array_equal(f(u32(8)), np.arange(8) + seed + i)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, s) for s in range(4)]:
            future.result()
