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
from jax_aiter.kernels.plan import PlanError
from tests.plan.samples import ADD, COPY, add_constant_plan, call_add_constant


def u32(*shape) -> jax.Array:
    return jnp.arange(int(np.prod(shape)), dtype=jnp.uint32).reshape(shape)


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


def test_program_text_names_op_and_kernels(mock):
    compiled = jax.jit(lambda x: call_add_constant(add_constant_plan(4, 1, op="readable"), x)).lower(u32(4)).compile()
    text = compiled.as_text()
    for part in ('custom_call_target="jax_aiter.run_plan.v1"', 'op = "readable"', f'kernels = "{ADD}"', 'arch = "mock"'):
        assert part in text


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (lambda: u32(7), r"plan add_constant: operand 0 is uint32\[7\], 28 bytes; the plan has operand\[0\] x \(32 bytes"),
        (lambda: u32(8).astype(jnp.uint8), r"operand 0 is uint8\[8\], 8 bytes"),
    ],
)
def test_wrong_sizes_are_refused_when_traced(x, message):
    with pytest.raises(PlanError, match=message):
        call_add_constant(add_constant_plan(8, 1), x())


def raw_call(plan, x, *shapes, encoded=None):
    """The custom call with the plan's attributes, without the checks of `call_plan`."""
    call = jax.ffi.ffi_call(_native.TARGET_NAME, [jax.ShapeDtypeStruct(s, jnp.uint32) for s in shapes])
    attrs = attributes(plan)
    return jax.block_until_ready(call(x, **{**attrs, "plan": encoded or attrs["plan"]}))


@pytest.mark.parametrize(
    ("n", "shapes", "message"),
    [
        (9, [(8,), (8,)], r"op add_constant: operand\[0\] x \(32 bytes\) was given 36 bytes"),
        (8, [(9,), (8,)], r"result\[0\] out \(32 bytes\) was given 36 bytes"),
        (8, [(8,), (9,)], r"scratch\[0\] constants \(32 bytes\) was given 36 bytes"),
        (8, [(8,)], r"called with 1 operands and 1 results, the plan has 1 and 2 \(scratch included\)"),
    ],
)
def test_wrong_buffers_are_refused_when_run(mock, n, shapes, message):
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        raw_call(add_constant_plan(8, 1), u32(n), *shapes)
    assert mock.records("launch", "fill") == []


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        ("!!!!", "attribute `plan` is not base64"),
        ("SkFQTA==", "launch plan cannot be read: 4 bytes, shorter than the header"),
        (attributes(add_constant_plan(8, 1))["plan"][:-4], "checksum mismatch, the data is corrupt"),
        ("SkFQTAIA" + attributes(add_constant_plan(8, 1))["plan"][8:], "its version is 2, this jax_aiter reads version 1"),
    ],
)
def test_bad_plan_is_an_error(mock, encoded, message):
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        raw_call(add_constant_plan(8, 1), u32(8), (8,), (8,), encoded=encoded)


def test_missing_plan_is_an_error(mock):
    call = jax.ffi.ffi_call(_native.TARGET_NAME, jax.ShapeDtypeStruct((4,), jnp.uint32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="without a string attribute `plan`"):
        jax.block_until_ready(call(u32(4), op="x"))


def one_launch(symbol: str, code: bytes, alignment: int = 4):
    b = PlanBuilder("broken", "mock")
    b.operand(16, alignment, "x")
    out = b.result(16, 4)
    b.launch(code, symbol, [3, 2, 1], [32], 0, [Pointer(out)])
    return b.build()


def run(plan):
    return jax.block_until_ready(call_plan(plan, u32(4), result_shape_dtypes=[u32(4)]))


def test_missing_symbol_is_an_error(mock):
    with pytest.raises(
        jax.errors.JaxRuntimeError,
        match=r"op broken \(mock\), step 0, kernel absent, grid \(3, 2, 1\), block \(32, 1, 1\), shared 0: "
        r"code object [0-9a-f]{12} \(12 bytes\): mock: named symbol not found",
    ):
        run(one_launch("absent", code_object("present")))


def test_unloadable_code_object_is_an_error(mock):
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"kernel k, .*: loading code object .*: mock: not a mock code object"):
        run(one_launch("k", b"\x7fELF, but not for this device"))


def test_failed_load_is_tried_again(mock):
    plan = one_launch("k", code_object("k", filler=b"fails first"))
    mock.configure(fail_load=True)
    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        run(plan)
    mock.configure()
    run(plan)
    assert len(mock.records("launch")) == 1


def test_failing_launch_is_an_error_with_its_place(mock):
    mock.configure(fail_after=1)
    with pytest.raises(
        jax.errors.JaxRuntimeError,
        match=r"jax_aiter: op add_constant \(mock\), step 1, kernel mock_add_u32, grid \(8, 2, 1\), block \(64, 1, 1\), "
        r"shared 96: mock reports mockErrorLaunchFailure \(719\)",
    ):
        call_add_constant(add_constant_plan(8, 1), u32(8)).block_until_ready()


def test_failing_fill_is_an_error_with_its_place(mock):
    mock.configure(fail_after=0)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"step 0, fill of scratch\[0\] constants \(32 bytes\): mock reports"):
        call_add_constant(add_constant_plan(8, 1), u32(8)).block_until_ready()


def test_misaligned_buffer_is_an_error(mock):
    plan = one_launch("k", code_object("k"), alignment=4096)
    compiled = jax.jit(lambda x: call_plan(plan, x, result_shape_dtypes=[x])).lower(u32(4)).compile()
    inputs = [u32(4) for _ in range(8)]  # several: one alone might be aligned to 4096 by chance
    assert any(x.unsafe_buffer_pointer() % 4096 for x in inputs)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"operand\[0\] x \(16 bytes\) is not aligned to 4096 bytes"):
        for x in inputs:
            jax.block_until_ready(compiled(x))


def test_nothing_but_enqueueing_while_capturing(mock):
    """Graph capture forbids opening, loading and looking up; execution after the first does none of them."""
    f = jax.jit(lambda x: call_add_constant(add_constant_plan(8, 2, filler=b"capture"), x))
    x = f(u32(8)).block_until_ready()
    mock.configure(capturing=True)
    f(x).block_until_ready()
    assert [r["call"] for r in mock.records()] == ["fill", "launch"]
    with pytest.raises(jax.errors.JaxRuntimeError, match="load is not permitted|open is not permitted"):  # the check works
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


def test_unusable_device_is_an_error(mock):
    mock.configure(devices=1)
    x = jax.device_put(u32(8), jax.devices("cpu")[1])
    with pytest.raises(jax.errors.JaxRuntimeError, match="mock cannot use device 1: mockErrorInvalidDevice"):
        call_add_constant(add_constant_plan(8, 1), x).block_until_ready()


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
            f = jax.jit(lambda x, k=seed + i: call_add_constant(add_constant_plan(8, k, filler=b"threads %d" % (i % 3)), x))
            for _ in range(5):
                np.testing.assert_array_equal(f(u32(8)), np.arange(8) + seed + i)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, s) for s in range(4)]:
            future.result()
