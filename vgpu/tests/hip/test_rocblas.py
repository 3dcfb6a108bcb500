"""The rocBLAS matrix products that XLA's plugin links, called as it calls them."""

import pytest

EX = """
from blas import *
import sys
rng, on = np.random.default_rng(0), handle()
for a_type, c_type, compute in {types}:
    a_type, c_type = np.dtype(a_type), np.dtype(c_type)
    for op_a, op_b in {operations}:
        m, n, k, batches = 5, 7, 6, 3
        shapes = [(batches, m, k) if op_a == NONE else (batches, k, m), (batches, k, n) if op_b == NONE else (batches, n, k)]
        def draw(shape, dtype):
            x = rng.integers(-4, 5, shape).astype(np.complex128 if dtype.kind == "c" else np.float64)
            if dtype.kind == "c":
                x += 1j * rng.integers(-4, 5, shape)
            return x.astype(dtype)
        a, b, c = draw(shapes[0], a_type), draw(shapes[1], a_type), draw((batches, m, n), c_type)
        exact = lambda x: x.astype(np.complex128 if c_type.kind == "c" else np.float64)
        want = 2 * operated(exact(a), op_a) @ operated(exact(b), op_b) - 3 * exact(c)
        # Small integers: every product and sum is exact in every type but the narrow results, which round once.
        status, d = gemm_ex(on, a, b, c, (op_a, op_b), 2, -3, compute)
        assert status == 0 and (exact(d) == exact(want.astype(c_type))).all(), (a_type, c_type, op_a, op_b)
        status, d = gemm_ex(on, a[:1], b[:1], c[:1], (op_a, op_b), 2, -3, compute, batched=False)
        assert status == 0 and (exact(d) == exact(want[:1].astype(c_type))).all(), (a_type, c_type, op_a, op_b)
print("equal")
"""
REAL = """[(np.float16, np.float16, 151), (np.float16, np.float32, 151), (ml_dtypes.bfloat16, ml_dtypes.bfloat16, 151),
    (ml_dtypes.bfloat16, np.float32, 151), (np.float32, np.float32, 151), (np.float64, np.float64, 152),
    (np.int8, np.int32, 162)]"""
COMPLEX = "[(np.complex64, np.complex64, 154), (np.complex128, np.complex128, 155)]"


@pytest.mark.parametrize(
    ("types", "operations"),
    [
        (REAL, "[(NONE, NONE), (NONE, TRANSPOSE), (TRANSPOSE, NONE), (CONJUGATE, TRANSPOSE)]"),
        (COMPLEX, "[(NONE, NONE), (TRANSPOSE, CONJUGATE), (CONJUGATE, NONE)]"),
    ],
    ids=["real", "complex"],
)
def test_gemm_ex(program, types, operations):
    done = program(EX.format(types=types, operations=operations))
    assert done.stdout == "equal\n", done.stderr


def test_typed_entry_points(program):
    done = program("""
    from blas import *
    rng, on = np.random.default_rng(1), handle()
    for letter, dtype in zip("sdcz", (np.float32, np.float64, np.complex64, np.complex128)):
        a, b = (rng.integers(-4, 5, s).astype(dtype) for s in ((2, 4, 3), (2, 3, 5)))
        pa, pb, pc = upload(column_major(a)), upload(column_major(b)), upload(np.zeros((2, 5, 4), dtype))
        one, zero = np.ones((), dtype), np.zeros((), dtype)
        x, y = c_void_p(one.ctypes.data), c_void_p(zero.ctypes.data)
        sizes = [c_int(v) for v in (NONE, NONE, 4, 5, 3)]
        f = getattr(lib, f"rocblas_{letter}gemm")
        assert f(on, *sizes, x, c_void_p(pa), c_int(4), c_void_p(pb), c_int(3), y, c_void_p(pc), c_int(4)) == 0
        assert (download(pc, 20, dtype).reshape(5, 4).T == a[0] @ b[0]).all()
        f = getattr(lib, f"rocblas_{letter}gemm_strided_batched")
        strided = [c_void_p(pa), c_int(4), c_int64(12), c_void_p(pb), c_int(3), c_int64(15)]
        assert f(on, *sizes, x, *strided, y, c_void_p(pc), c_int(4), c_int64(20), c_int(2)) == 0
        assert (download(pc, 40, dtype).reshape(2, 5, 4).swapaxes(1, 2) == a @ b).all()
    print("equal")
    """)
    assert done.stdout == "equal\n", done.stderr


def test_products_keep_stream_order(program):
    done = program("""
    from blas import *
    slow, on = function("slow_add"), stream()
    source, a, c = upload(np.zeros(64, np.int32)), malloc(256), malloc(4)
    blas = handle(on)
    launch(slow, a, source, 64, 200000, on)   # leaves the integer 1 in every element
    one, zero = np.ones((), np.int32), np.zeros((), np.int32)
    ints, n = c_int(162), c_int(1)
    matrix = lambda p: [c_void_p(p), ints, n]
    assert lib.rocblas_gemm_ex(blas, c_int(NONE), c_int(NONE), n, n, n, c_void_p(one.ctypes.data), *matrix(a), *matrix(a),
                               c_void_p(zero.ctypes.data), *matrix(c), *matrix(c), ints, c_int(0), c_int(0), c_int(0)) == 0
    call("hipStreamSynchronize", on)
    print(download(c, 1))
    """)
    assert done.stdout == "[1]\n", done.stderr


def test_operands_past_the_end_and_unknown_types(program):
    done = program("""
    from blas import *
    on, a = handle(), malloc(4 * 15)
    one = np.ones((), np.float32)
    x, n = c_void_p(one.ctypes.data), c_int(4)
    def sgemm():
        return lib.rocblas_sgemm(on, c_int(NONE), c_int(NONE), n, n, n, x, c_void_p(a), n, c_void_p(a), n, x, c_void_p(a), n)
    print(sgemm() != 0 or code_of("hipDeviceSynchronize") != 0)
    matrix = [c_void_p(a), c_int(7), n]
    operands = [n, n, n, x, *matrix, *matrix, x, *matrix, *matrix]
    print(lib.rocblas_gemm_ex(on, c_int(NONE), c_int(NONE), *operands, c_int(151), c_int(0), c_int(0), c_int(0)))
    """)
    assert done.stdout == "True\n2\n", done.stdout + done.stderr  # 2: rocblas_status_not_implemented
    assert "GEMM operand A" in done.stderr and "not implemented" in done.stderr, done.stderr
