"""rocBLAS matrix products through ctypes, for the programs that the tests run under the device."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_float, c_int, c_int64, c_void_p

import ml_dtypes
import numpy as np

from hip import download, malloc, upload

lib = ctypes.CDLL("librocblas.so.5")
NONE, TRANSPOSE, CONJUGATE = 111, 112, 113
TYPES = {
    np.dtype(np.float16): 150,
    np.dtype(np.float32): 151,
    np.dtype(np.float64): 152,
    np.dtype(np.complex64): 154,
    np.dtype(np.complex128): 155,
    np.dtype(np.int8): 160,
    np.dtype(np.int32): 162,
    np.dtype(ml_dtypes.bfloat16): 168,
}


def handle(stream: c_void_p | None = None) -> c_void_p:
    out = c_void_p()
    assert lib.rocblas_create_handle(byref(out)) == 0
    assert lib.rocblas_set_stream(out, stream) == 0
    return out


def column_major(x: np.ndarray) -> np.ndarray:
    """Matrices of a batch as BLAS has them, one after the other."""
    return np.ascontiguousarray(x.swapaxes(-1, -2))


def operated(x: np.ndarray, operation: int) -> np.ndarray:
    if operation == NONE:
        return x
    return x.swapaxes(-1, -2).conj() if operation == CONJUGATE else x.swapaxes(-1, -2)


def gemm_ex(on, a, b, c, operations, alpha, beta, compute, batched=True) -> tuple[int, np.ndarray]:
    """(status, D) for [batch, rows, columns] operands as stored; alpha and beta in the compute type."""
    dtype = {151: np.float32, 152: np.float64, 154: np.complex64, 155: np.complex128, 162: np.int32}[compute]
    scalars = [np.array(x, dtype) for x in (alpha, beta)]
    m, n = c.shape[-2:]
    k = operated(a, operations[0]).shape[-1]
    pa, pb, pc, pd = (upload(column_major(x)) for x in (a, b, c, c))

    def matrix(pointer: int, x: np.ndarray) -> list:
        fields = [c_void_p(pointer), c_int(TYPES[x.dtype]), c_int(x.shape[-2])]
        return [*fields, c_int64(x.shape[-2] * x.shape[-1])] if batched else fields

    name = "rocblas_gemm_strided_batched_ex" if batched else "rocblas_gemm_ex"
    sizes = [c_int(x) for x in (*operations, m, n, k)]
    tail = [c_int(len(c))] if batched else []
    status = getattr(lib, name)(
        on, *sizes, c_void_p(scalars[0].ctypes.data), *matrix(pa, a), *matrix(pb, b), c_void_p(scalars[1].ctypes.data),
        *matrix(pc, c), *matrix(pd, c), *tail, c_int(compute), c_int(0), c_int(0), c_int(0),
    )  # fmt: skip
    d = download(pd, c.size, c.dtype).reshape(c.swapaxes(-1, -2).shape).swapaxes(-1, -2)
    return status, d


__all__ = [name for name in dir() if not name.startswith("_")] + ["c_float", "malloc"]
