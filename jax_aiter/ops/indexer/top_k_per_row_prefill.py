"""The k largest logits of each row between two columns of its own (sparse attention's indexer, prefill)."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, normal
from jax_aiter.core.machine import always
from jax_aiter.ops.indexer import row_top_k

OP = "top_k_per_row_prefill"


def _abstract(dims, *, logits, row_starts, row_ends, k, stable):
    return (jax.ShapeDtypeStruct((dims["T"], k), jnp.int32),)


def _reference(*, logits, row_starts, row_ends, k, stable):
    return (row_top_k.select(logits, row_starts, row_ends, k, stable),)


TOP_K_PER_ROW_PREFILL = Op(
    name=OP,
    family="ATTENTION",
    mirrors="aiter.top_k_per_row_prefill, aiter.top_k_per_row_prefill_fast (aiter/ops/topk.py)",
    operands={"logits": Arg("T L", ("float32",)), "row_starts": Arg("T", INT32), "row_ends": Arg("T", INT32)},
    results={"indices": "T k"},
    abstract=_abstract,
    reference=_reference,
    gpu=always(row_top_k.NAME),
    parallel=("T",),
    fold="T",
    reads=lambda *, logits, row_starts, row_ends, **_: row_top_k.reads(logits, row_starts, row_ends),
    data_checks=lambda *, logits, row_starts, row_ends, **_: {
        "0 <= row_starts <= row_ends <= L": (row_starts < 0) | (row_starts > row_ends) | (row_ends > logits.shape[1])
    },
    cases=lambda: [
        case(
            "windows",
            logits=normal(4, 12),
            row_starts=constant([0, 0, 3, 5], jnp.int32),
            row_ends=constant([12, 2, 9, 5], jnp.int32),
            k=4,
            stable=True,
        ),
        case("few", logits=normal(1, 3), row_starts=constant([0], jnp.int32), row_ends=constant([3], jnp.int32), k=8, stable=False),
    ],
)


@public
def top_k_per_row_prefill(
    logits: jax.Array,
    row_starts: jax.Array,
    row_ends: jax.Array,
    *,
    k: int = 2048,
    stable: bool = False,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """The columns of the k largest of ``logits[t, row_starts[t]:row_ends[t]]``, for each row t.

    Args:
      logits: float32 ``[T, L]``.
      row_starts: int32 ``[T]``, first column of the row's range; below 0 counts as 0.
      row_ends: int32 ``[T]``, one past its last column; beyond L counts as L. An empty range gives only -1.
      k: static, >= 1 (AITER's hand-written kernel has 2048).
      stable: static. True: ascending columns, the lowest among equals, the same on every run. False: any order, and any choice
        among logits that are equal to the k-th; implementations differ.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: ``"asm_top_k_per_row_prefill"`` runs AITER's hand-written kernel (gfx942). It is exact while no float16 bin of a row's
        logits (sign, exponent, 5 bits of mantissa: 32 bins to an octave) holds more than 512 of them, and else takes any of the bin
        that holds the k-th; a row with NaN it may get wrong. ``implementation="asm"`` alone takes it for L <= 2048 only.

    Returns:
      int32 ``[T, k]`` columns of `logits` (counted from 0, not from the row's start); where the range has fewer than k columns the
      rest is -1, at the end. A NaN ranks beyond the infinity of its sign. Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.top_k_per_row_prefill``. (AITER's ``_fast`` variant, the hand-written kernel, counts from the row's start and
    leaves `values` unwritten; here the start is added, and there are no values: gather them.)
    """
    (indices,) = TOP_K_PER_ROW_PREFILL(
        logits=logits,
        row_starts=row_starts,
        row_ends=row_ends,
        k=check.integer(OP, "k", k, 1),
        stable=check.boolean(OP, "stable", stable),
        implementation=implementation,
        kernel=kernel,
    )
    return indices
