"""What the work lists of AITER's persistent kernels, for paged attention and for MLA, ask of their arguments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import check, symbolic
from jax_aiter.core.arch import amd_arch, compute_units
from jax_aiter.core.cases import Case, case, constant
from jax_aiter.ops.attention.ragged import order_checks


def below_rows(op: str, works: Any, queries: Any, sequences: Any, more: int = 0) -> None:
    """ValueError unless the rows of `works` (and `more`) partial results are counted in int32."""
    rule = f"{op}: {works} works of {queries} queries, from {sequences} sequences, must be less than 2^31 rows"
    symbolic.below((works + more) * queries, 2**31, rule)


def data_checks(
    seqlens_qo_indptr: jax.Array, pages: str, indptr: jax.Array, most: int, page_size: int, max_seqlen_qo: int
) -> dict[str, jax.Array]:
    """Of both lists of offsets: `indptr`, by the name `pages`, counts pages, fewer than `most`."""
    return {
        **order_checks("seqlens_qo_indptr", seqlens_qo_indptr),
        **order_checks(pages, indptr),
        f"{pages} must stay below {most} pages of {page_size}": indptr >= most,
        f"no sequence may have more than max_seqlen_qo = {max_seqlen_qo} queries in seqlens_qo_indptr": jnp.diff(seqlens_qo_indptr)
        > max_seqlen_qo,
    }


def offsets_case(name: str, operands: dict[str, list[int]], **params: Any) -> Case:
    """A record's case of lists of int32."""
    return case(name, **{n: constant(x, jnp.int32) for n, x in operands.items()}, **params)


def workgroups(op: str, num_cu: int | None) -> int:
    """The workgroups to share the work among: given, or the compute units of the target (without one, of the MI300X)."""
    return compute_units(amd_arch()) if num_cu is None else check.integer(op, "num_cu", num_cu, 1, 2**16)
