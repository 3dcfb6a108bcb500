"""Triton kernels of our own, chosen for the instructions they make the compiler emit."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def vector_add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=inside) + tl.load(y_ptr + at, mask=inside), mask=inside)


@triton.jit
def softmax(x_ptr, out_ptr, columns, stride, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * stride + at, mask=at < columns, other=-float("inf")).to(tl.float32)
    e = tl.exp(x - tl.max(x, axis=0))
    tl.store(out_ptr + row * stride + at, e / tl.sum(e, axis=0), mask=at < columns)


@triton.jit
def matmul(a_ptr, b_ptr, c_ptr, m, n, k, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """C[m, n] f32 = A[m, k] @ B[k, n], any sizes."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, k, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        a_mask = (rows[:, None] < m) & (inner[None, :] < k)
        b_mask = (inner[:, None] < k) & (columns[None, :] < n)
        a = tl.load(a_ptr + rows[:, None] * k + inner[None, :], mask=a_mask, other=0.0)
        b = tl.load(b_ptr + inner[:, None] * n + columns[None, :], mask=b_mask, other=0.0)
        total = tl.dot(a, b, total)
    tl.store(c_ptr + rows[:, None] * n + columns[None, :], total, mask=(rows[:, None] < m) & (columns[None, :] < n))


@triton.jit
def atomics(x_ptr, histogram_ptr, largest_ptr, total_ptr, n, BINS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    x = tl.load(x_ptr + at, mask=inside, other=0)
    tl.atomic_add(histogram_ptr + x % BINS, 1, mask=inside)
    tl.atomic_max(largest_ptr, tl.max(x, axis=0))
    tl.atomic_add(total_ptr, tl.sum(tl.where(inside, x, 0), axis=0).to(tl.float32))


@triton.jit
def split_k(a_ptr, b_ptr, c_ptr, lock_ptr, k, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """One tile of C, k split over programs that add in their order: each spins until its turn comes."""
    turn = tl.program_id(0)
    rows, columns, inner = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), turn * BLOCK_K + tl.arange(0, BLOCK_K)
    a = tl.load(a_ptr + rows[:, None] * k + inner[None, :])
    b = tl.load(b_ptr + inner[:, None] * BLOCK_N + columns[None, :])
    part = tl.dot(a, b)
    while tl.atomic_add(lock_ptr, 0) != turn:
        pass
    out = c_ptr + rows[:, None] * BLOCK_N + columns[None, :]
    tl.store(out, tl.load(out) + part)
    tl.debug_barrier()
    tl.atomic_add(lock_ptr, 1)


@triton.jit
def row_statistics(x_ptr, order_ptr, running_ptr, quantised_ptr, BLOCK: tl.constexpr):
    """Sort, prefix sum and a rounding conversion of one row."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at)
    tl.store(order_ptr + at, tl.sort(x))
    tl.store(running_ptr + at, tl.cumsum((x * 16).to(tl.int32), axis=0))
    tl.store(quantised_ptr + at, x.to(tl.bfloat16))
