"""What the handler reports when a plan, its buffers or the device are not right: an error that names the place, never a crash."""

import jax
import jax.numpy as jnp
import pytest

from jax_aiter.kernels import _native
from jax_aiter.kernels.args import Pointer
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.call import attributes, call_plan
from jax_aiter.kernels.mock_driver import code_object
from jax_aiter.kernels.plan import PlanError
from tests.plan.samples import add_constant_plan, call_add_constant, u32


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
        ("SkFQTAMA" + attributes(add_constant_plan(8, 1))["plan"][8:], "its version is 3, this jax_aiter reads versions up to 2"),
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
    misaligned = next(x for x in inputs if x.unsafe_buffer_pointer() % 4096)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"operand\[0\] x \(16 bytes\) is not aligned to 4096 bytes"):
        jax.block_until_ready(compiled(misaligned))


def test_unusable_device_is_an_error(mock):
    mock.configure(devices=1)
    x = jax.device_put(u32(8), jax.devices("cpu")[1])
    with pytest.raises(jax.errors.JaxRuntimeError, match="mock cannot use device 1: mockErrorInvalidDevice"):
        call_add_constant(add_constant_plan(8, 1), x).block_until_ready()
