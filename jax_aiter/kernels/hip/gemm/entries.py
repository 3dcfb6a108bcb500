"""Which library AITER's Python calls for a matrix product: the one that its tuned row names, Composable Kernel where there is none.

Rows are looked up as AITER's host code does, which compiles in those of the device: it takes the row's tile, else one by rules of
its own for the sizes. aiter/ops/gemm_op_a8w8.py, batched_gemm_op_a8w8.py, batched_gemm_op_bf16.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from jax_aiter.core.arch import compute_units
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.adapters import Entry
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.tables import gemm
from jax_aiter.kernels.tables.tuned import Row

OWN = "ck"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of an op. rounded: the M under which one is looked up, of M and N. typed: rows are of a weight's dtype."""

    pattern: str
    rounded: Callable[[int, int], Sequence[int]] = gemm.steps
    typed: bool = False


def _powers(m: int, n: int) -> Sequence[int]:
    return gemm.powers(m)


TABLES = {
    "gemm_a8w8": Table("*a8w8_tuned_gemm*.csv", _powers, typed=True),
    "gemm_a8w8_bpreshuffle": Table("*a8w8_bpreshuffle_tuned_gemm*.csv", typed=True),
    "gemm_a8w8_blockscale": Table("*a8w8_blockscale_tuned_gemm*.csv"),
    "gemm_a8w8_blockscale_bpreshuffle": Table("*a8w8_blockscale_bpreshuffle_tuned_gemm*.csv"),
    "batched_gemm_a8w8": Table("*a8w8_tuned_batched_gemm*.csv", _powers),
    "batched_gemm_bf16": Table("*bf16_tuned_batched_gemm*.csv", _powers),
}


def tuned_row(spec: CallSpec) -> Row | None:
    """AITER's tuned row for a call on this architecture and number of compute units; KernelBuildError if its tables are altered."""
    table, (x, w) = TABLES[spec.op], list(spec.operands.values())[:2]
    (*batch, m, k), n = x.shape, w.shape[-2]
    key = {"gfx": spec.arch, "cu_num": compute_units(spec.arch), **({"B": batch[0]} if batch else {}), "M": m, "N": n, "K": k}
    keys = [{**key, "q_dtype_w": dtype} for dtype in (f"torch.{w.dtype}", "")] if table.typed else [key]
    found = (gemm.row(table.pattern, key, table.rounded(m, n)) for key in keys)
    return next((row for row in found if row is not None), None)


def entry(spec: CallSpec) -> Entry:
    """What AITER's function of that name launches for a call."""
    try:
        row = tuned_row(spec)
    except KernelBuildError as error:  # so will whoever compiles that table in
        return Entry(f"the library that AITER calls for want of a tuned row; its tables cannot be read: {error}")
    if row is None:
        rule = "AITER's rule for shapes without a tuned row: Composable Kernel, whose tile its dispatcher takes by the sizes"
        return Entry(rule, left_open="AITER has no tuned row for this shape and calls Composable Kernel")
    said = f"AITER's tuned row for M = {row['M']}"
    if row["libtype"] == OWN:
        return Entry(f"{said}: {row['kernelName']}")
    return Entry("the caller", elsewhere=f"{said} takes {row['libtype']}")
