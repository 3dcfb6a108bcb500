"""Our stand-ins for HIP's and torch's types, compiled and called: rounding against numpy and ml_dtypes, a tensor's members."""

import ctypes
import functools

import ml_dtypes
import numpy as np
import pytest

from jax_aiter.kernels.hip.build import commands, frontend
from tests.hip.compiled import compiler

SOURCE = frontend.INCLUDE.parents[3] / "tests/hip/stand_ins.hip"
TYPES = {
    "hip_half": np.float16,
    "hip_bf16": ml_dtypes.bfloat16,
    "hip_bfloat16": ml_dtypes.bfloat16,
    "torch_half": np.float16,
    "torch_bf16": ml_dtypes.bfloat16,
}
HALF, FLOAT, INT = 5, 6, 3  # torch's numbers


class Tensor(ctypes.Structure):
    """The layout that stands in jax_aiter_tensor.h, and in AITER's later releases."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
        ("axes", ctypes.c_int),
        ("shape", ctypes.c_int64 * 8),
        ("steps", ctypes.c_int64 * 8),
        ("type", ctypes.c_int),
        ("device", ctypes.c_int),
    )

    @classmethod
    def of(cls, array: np.ndarray, kind: int) -> "Tensor":
        steps = [step // array.itemsize for step in array.strides]
        return cls(0x7000, array.size, array.ndim, (*array.shape,), (*steps,), kind, 0)


@functools.cache
def library(folder):
    """1.5 s."""
    found = compiler()
    headers = (frontend.INCLUDE / "torch", frontend.INCLUDE / "device", found.headers, frontend.INCLUDE / "prelude")
    flags = ("-x", "hip", "--offload-arch=gfx942", "--cuda-host-only", "-nogpulib", "-nogpuinc", "-std=c++20", "-O1", "-fPIC")
    includes = [word for path in headers for word in ("-isystem", path)]
    ahead = ("-include", "__clang_hip_runtime_wrapper.h", "-include", "jax_aiter_prelude.h", "-D__HIP_PLATFORM_AMD__=1")
    commands.run([found.clang, *flags, *includes, *ahead, "-c", SOURCE, "-o", folder / "stand_ins.o"], folder)
    made = ("-shared", f"--ld-path={found.lld}", folder / "stand_ins.o", "-Wl,--unresolved-symbols=ignore-all")
    commands.run([found.clang, *made, "-lstdc++", "-o", folder / "stand_ins.so"], folder)
    return ctypes.CDLL(str(folder / "stand_ins.so"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return library(tmp_path_factory.mktemp("stand_ins"))


def floats(rng) -> np.ndarray:
    """Every pattern of the upper half, ties, neighbours of ties, numbers out of range, NaNs whose payload lies low."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    low = (0, 0x7FFF, 0x8000, 0x8001, 0x0FFF, 0x1000, 0x1001, 0x3000)
    return np.concatenate([(upper | bits) for bits in low] + [rng.integers(0, 1 << 32, 1 << 16, dtype=np.uint32)]).view(np.float32)


@pytest.mark.parametrize("name", TYPES)
def test_a_float_is_rounded_to_the_nearest_and_read_back_as_it_is(built, name):
    given = floats(np.random.default_rng(0))
    found = np.zeros(given.size, np.uint16)
    getattr(built, f"to_{name}")(given.ctypes.data_as(ctypes.c_void_p), found.ctypes.data_as(ctypes.c_void_p), given.size)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = given.astype(TYPES[name])
    nan = np.isnan(given)
    np.testing.assert_array_equal(found[~nan], expected.view(np.uint16)[~nan])
    assert np.isnan(found[nan].view(TYPES[name]).astype(np.float32)).all()
    patterns = np.arange(1 << 16, dtype=np.uint16)
    back = np.zeros(patterns.size, np.float32)
    getattr(built, f"from_{name}")(patterns.ctypes.data_as(ctypes.c_void_p), back.ctypes.data_as(ctypes.c_void_p), patterns.size)
    np.testing.assert_array_equal(back, patterns.view(TYPES[name]).astype(np.float32))


@pytest.mark.parametrize("name", TYPES)
def test_each_operation_on_a_small_float_rounds(built, name):
    given = np.random.default_rng(1).normal(size=4096).astype(np.float32)
    found = np.zeros(given.size, np.float32)
    getattr(built, f"rotate_{name}")(given.ctypes.data_as(ctypes.c_void_p), found.ctypes.data_as(ctypes.c_void_p), given.size)
    x, c, y, s = (given.astype(TYPES[name])[i : given.size - 3 + i] for i in range(4))
    np.testing.assert_array_equal(found[:-3], ((x * c - y * s) + x).astype(np.float32))


ARRAYS = [
    np.zeros((3, 4, 5), np.float32),
    np.zeros((3, 4, 5), np.float32).transpose(1, 0, 2),
    np.zeros((8, 6), np.float32)[::2, :4],
    np.zeros((1, 7), np.float32)[:, :1],
    np.zeros((0, 3), np.float32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=range(len(ARRAYS)))
def test_sizes_strides_and_parts_are_numpys(built, array):
    tensor = Tensor.of(array, FLOAT)
    size, stride, count = ctypes.c_int64(), ctypes.c_int64(), ctypes.c_int64()
    built.part.restype = ctypes.c_int64
    for axis in range(-array.ndim, array.ndim):
        assert built.axis(ctypes.byref(tensor), ctypes.c_int64(axis), ctypes.byref(size), ctypes.byref(stride)) == 0
        assert (size.value, stride.value * 4) == (array.shape[axis], array.strides[axis])
    assert bool(built.contiguous(ctypes.byref(tensor))) == array.flags.c_contiguous
    for index in range(array.shape[0]):
        address = built.part(ctypes.byref(tensor), ctypes.c_int64(index), ctypes.byref(count))
        assert address - 0x7000 == index * array.strides[0]
        assert count.value == array[index].size


def said(library) -> str:
    library.last_rule.restype = ctypes.c_char_p
    return library.last_rule().decode()


def test_what_torch_would_raise_is_a_rule_with_its_values(built):
    tensor, number = Tensor.of(np.zeros((3, 4, 5), np.float32), INT), ctypes.c_int64()
    for axis in (3, -4):
        assert built.axis(ctypes.byref(tensor), ctypes.c_int64(axis), ctypes.byref(number), ctypes.byref(number))
        assert said(built) == f"axis {axis} of a tensor of 3 axes"
    assert built.checked(ctypes.byref(tensor))
    assert said(built) == "tensor.dim() == 2 is not so; expected two axes, got 3"
    assert built.typed(ctypes.byref(tensor), ctypes.byref(number))
    assert said(built) == f"expected a tensor of dtype {FLOAT}, got dtype {INT}"
    assert built.dispatched(ctypes.byref(tensor), ctypes.byref(number))
    assert said(built) == f"of this test has no instance for dtype {INT}"


def test_what_torch_would_take_is_taken(built):
    tensor, number = Tensor.of(np.zeros((3, 4), np.float32), FLOAT), ctypes.c_int64()
    assert built.checked(ctypes.byref(tensor)) == 0
    assert built.typed(ctypes.byref(tensor), ctypes.byref(number)) == 0
    assert number.value == 0x7000
    assert built.dispatched(ctypes.byref(tensor), ctypes.byref(number)) == 0
    assert number.value == 4


def test_memory_that_is_asked_for_is_scratch(built):
    built.made.restype = built.last_scratch.restype = ctypes.c_size_t
    assert built.made(ctypes.c_int64(3), ctypes.c_int64(5)) == 5 * 1000 + 15
    assert built.last_scratch() == 30
