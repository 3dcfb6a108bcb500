"""Our Triton kernels, compiled for both architectures, run on the interpreter and through HIP, and compared with numpy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import triton_kernels as kernels
from compiling import ARCHITECTURES, compile_kernel

FP8 = {"gfx942": ("fp8e4b8", ml_dtypes.float8_e4m3fnuz), "gfx950": ("fp8e4nv", ml_dtypes.float8_e4m3fn)}

pytestmark = pytest.mark.parametrize("arch", ARCHITECTURES)


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000])
def test_vector_add_is_bit_exact(run, arch, n):
    compiled = compile_kernel(
        kernels.vector_add, arch, {"x_ptr": "*fp32", "y_ptr": "*fp32", "out_ptr": "*fp32", "n": "i32"}, {"BLOCK": 256}
    )
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(2, n)).astype(np.float32)
    *_, out = run(compiled, arch, (-(-n // 256),), x, y, np.zeros(n, np.float32), n)
    np.testing.assert_array_equal(out, x + y)


@pytest.mark.parametrize("columns", [1, 63, 512, 700])
def test_softmax(run, arch, columns):
    """Bound: exp's argument is off by up to |x| * 2^-24 plus an ulp for exp itself, the sum by log2(n) + 1 roundings and
    the division by one: below 2^-19 relative for |x - max| < 16."""
    compiled = compile_kernel(
        kernels.softmax,
        arch,
        {"x_ptr": "*fp32", "out_ptr": "*fp32", "columns": "i32", "stride": "i32"},
        {"BLOCK": 1024},
        num_warps=4,
    )
    x = np.random.default_rng(columns).normal(size=(3, columns)).astype(np.float32) * 2
    _, out = run(compiled, arch, (3,), x, np.zeros_like(x), columns, columns)
    wide = x.astype(np.float64)
    e = np.exp(wide - wide.max(axis=1, keepdims=True))
    np.testing.assert_allclose(out, e / e.sum(axis=1, keepdims=True), rtol=2.0**-19, atol=0)


def check_product(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """k + 1 roundings of the running sum, each at most 2^-24 of the sum of magnitudes."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    bound = (a.shape[1] + 1) * 2.0**-24 * (np.abs(a) @ np.abs(b))
    assert (np.abs(c - a @ b) <= bound).all()


SIGNATURE = {"c_ptr": "*fp32", "m": "i32", "n": "i32", "k": "i32"}


@pytest.mark.parametrize("instruction", [16, 32])
@pytest.mark.parametrize(("triton_type", "dtype"), [("bf16", ml_dtypes.bfloat16), ("fp16", np.float16)])
def test_matmul_16_bits(run, arch, instruction, triton_type, dtype):
    compiled = compile_kernel(
        kernels.matmul,
        arch,
        {"a_ptr": f"*{triton_type}", "b_ptr": f"*{triton_type}", **SIGNATURE},
        {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32},
        matrix_instr_nonkdim=instruction,
        num_warps=4,
    )
    assert f"v_mfma_f32_{instruction}x{instruction}x" in compiled.assembly
    rng = np.random.default_rng(instruction)
    m, n, k = 65, 80, 72
    for scale in (None, 3):  # normal deviates within the bound, then small integers exactly
        a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
        if scale:
            a, b = np.rint(a * scale), np.rint(b * scale)
        a, b = a.astype(dtype), b.astype(dtype)
        *_, c = run(compiled, arch, (2, 2), a, b, np.zeros((m, n), np.float32), m, n, k)
        if scale:
            np.testing.assert_array_equal(c, a.astype(np.float32) @ b.astype(np.float32))
        else:
            check_product(c, a, b)


@pytest.mark.parametrize("instruction", [16, 32])
def test_matmul_fp8(run, arch, instruction):
    name, dtype = FP8[arch]
    compiled = compile_kernel(
        kernels.matmul,
        arch,
        {"a_ptr": f"*{name}", "b_ptr": f"*{name}", **SIGNATURE},
        {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 128},
        matrix_instr_nonkdim=instruction,
        num_warps=2,
    )
    assert "v_mfma" in compiled.assembly
    rng = np.random.default_rng(instruction)
    a, b = rng.normal(size=(33, 200)).astype(dtype), rng.normal(size=(200, 40)).astype(dtype)
    *_, c = run(compiled, arch, (2, 2), a, b, np.zeros((33, 40), np.float32), 33, 40, 200)
    check_product(c, a, b)


def test_atomics(run, arch):
    compiled = compile_kernel(
        kernels.atomics,
        arch,
        {"x_ptr": "*i32", "histogram_ptr": "*i32", "largest_ptr": "*i32", "total_ptr": "*fp32", "n": "i32"},
        {"BINS": 16, "BLOCK": 256},
    )
    x = np.random.default_rng(1).integers(0, 1000, 1500, dtype=np.int32)
    start = np.full(1, -5, np.int32)
    _, histogram, largest, total = run(compiled, arch, (6,), x, np.zeros(16, np.int32), start, np.zeros(1, np.float32), 1500)
    np.testing.assert_array_equal(histogram, np.bincount(x % 16, minlength=16))
    assert largest[0] == x.max() and total[0] == x.sum()  # all partial sums are integers below 2^24: exact in any order


@pytest.mark.parametrize("threads", [1, 2])
def test_split_k_spins_until_its_turn(run, arch, threads):
    """Programs wait for lower-numbered ones, on one thread too: only a preemptive scheduler finishes."""
    compiled = compile_kernel(
        kernels.split_k,
        arch,
        {"a_ptr": "*fp16", "b_ptr": "*fp16", "c_ptr": "*fp32", "lock_ptr": "*i32", "k": "i32"},
        {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 32},
        num_warps=1,
    )
    rng = np.random.default_rng(2)
    a, b = rng.integers(-4, 5, (16, 256)).astype(np.float16), rng.integers(-4, 5, (256, 16)).astype(np.float16)
    _, _, c, lock = run(compiled, arch, (8,), a, b, np.zeros((16, 16), np.float32), np.zeros(1, np.int32), 256, threads=threads)
    np.testing.assert_array_equal(c, a.astype(np.float32) @ b.astype(np.float32))
    assert lock[0] == 8


def test_sort_prefix_sum_and_conversion(run, arch):
    compiled = compile_kernel(
        kernels.row_statistics,
        arch,
        {"x_ptr": "*fp32", "order_ptr": "*fp32", "running_ptr": "*i32", "quantised_ptr": "*bf16"},
        {"BLOCK": 256},
        num_warps=2,
    )
    x = np.random.default_rng(3).normal(size=(2, 256)).astype(np.float32)
    _, order, running, quantised = run(
        compiled, arch, (2,), x, np.zeros_like(x), np.zeros((2, 256), np.int32), np.zeros((2, 256), ml_dtypes.bfloat16)
    )
    np.testing.assert_array_equal(order, np.sort(x, axis=1))
    np.testing.assert_array_equal(running, np.cumsum((x * 16).astype(np.int32), axis=1))
    np.testing.assert_array_equal(quantised.view(np.uint16), x.astype(ml_dtypes.bfloat16).view(np.uint16))
