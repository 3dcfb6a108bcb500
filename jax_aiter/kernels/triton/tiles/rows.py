"""The tiles of kernels that go over rows: how many warps share a row, and of those that stay, how many programs a compute unit has.

Such a kernel moves bytes; what matters is how many are on their way at once.
"""

from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.tiles.space import Space

WARPS = (1, 2, 4, 8, 16)
#: entry of kernels whose programs go from row to row.
PER_UNIT = "PROGRAMS_PER_UNIT"


def rows(spec: CallSpec, operand: str = "x", **values: tuple[int, ...]) -> Space:
    """Warps of a program, for each row of an operand's last axis."""
    array = spec[operand]
    columns = array.shape[-1]
    starts = tuple({"num_warps": warps} for warps in (4, 8))
    return Space({"num_warps": WARPS, **values}, {"rows": max(array.size // columns, 1), "columns": columns}, starts)


def staying(spec: CallSpec, operand: str = "x") -> Space:
    """The same of kernels whose programs stay and go from row to row."""
    space = rows(spec, operand, **{PER_UNIT: (1, 2, 4, 8, 16, 32)})
    starts = tuple({PER_UNIT: programs, "num_warps": warps} for programs, warps in ((4, 8), (8, 4), (2, 16)))
    return Space(space.values, space.bucket, starts)
