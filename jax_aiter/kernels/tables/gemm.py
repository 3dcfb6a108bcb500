"""Which tuned row a matrix product goes by: that of its own number of rows M, else of M rounded up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jax_aiter.kernels.tables.cells import Value
from jax_aiter.kernels.tables.tuned import Row, tuned


def row(pattern: str, key: Mapping[str, Value | None], rounded: Sequence[int]) -> Row | None:
    """The row of the tables `pattern` with these columns, whose M is the first of `rounded` for which there is one."""
    rows = tuned(pattern, tuple(key))
    found = (rows.get(tuple({**key, "M": m}.values())) for m in rounded)
    return next((row for row in found if row is not None), None)


def steps(m: int, n: int) -> tuple[int, ...]:
    """M as most tables are looked up: in small steps, then in powers of two (csrc/py_itfs_cu/gemm_common.cu getPaddedM)."""
    step = next((step for limit, step in ((256, 16), (1024, 32), (4096, 64)) if m <= limit), 128)
    return m, -(-m // step) * step, 8192 if m > 8192 and n > 4096 else _power(m)


def powers(m: int) -> tuple[int, ...]:
    """M as csrc/ck_gemm_a8w8 and the batched products look it up: 1, then powers of two from 16 to 16,384, then 20,480."""
    if m > 16384:
        return m, 20480 if m <= 20480 else m
    return m, 16 if 1 < m <= 16 else _power(m)


def _power(m: int) -> int:
    return 1 << max(m - 1, 0).bit_length()
