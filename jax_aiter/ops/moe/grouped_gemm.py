"""Rows in groups, each times its group's matrix."""

from typing import Any

import jax

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.ops.moe.grouped import GROUPED_GEMM, out_type


@public
def grouped_gemm(
    lhs: jax.Array,
    rhs: jax.Array,
    group_sizes: jax.Array,
    bias: jax.Array | None = None,
    *,
    transpose_rhs: bool = False,
    preferred_element_type: Any = None,
    implementation: str | None = None,
) -> jax.Array:
    """``out[m] = lhs[m] · rhs[g] + bias[g]`` for the rows m of each group g, accumulated in float32.

    It takes the place of ``jax.lax.ragged_dot`` and of the ``gmm`` of megablox, with arguments of the same names.

    Args:
      lhs: ``[M, K]`` float32, bfloat16, float16 or fp8: the rows of group 0, then of group 1, and so on.
      rhs: ``[G, K, N]``, or ``[G, N, K]`` with `transpose_rhs`; the dtype of `lhs`.
      group_sizes: int32 ``[G]``, the rows of each group, 0 or more. Rows behind the last group belong to none: they are not read,
        and are zero in the result. Of sizes that sum to more than M only the first M rows count.
      bias: ``[G, N]``, float; added before the one rounding.
      transpose_rhs: static; ``lhs[m] · rhs[g]ᵀ``.
      preferred_element_type: float32, bfloat16 or float16, the dtype of the result; None: that of `lhs`, bfloat16 for fp8.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[M, N]``. Differentiable in `lhs`, `rhs` and `bias` (not in fp8 operands): the gradient of `lhs` is this op again, that of
      `rhs` is `transposed_grouped_gemm`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule; `debug_checks` reports bad group sizes.

    Mirrors ``aiter.ops.triton.gmm.gmm``.
    """
    op = "grouped_gemm"
    (out,) = GROUPED_GEMM(
        lhs=lhs,
        rhs=rhs,
        group_sizes=group_sizes,
        bias=bias,
        transpose_rhs=check.boolean(op, "transpose_rhs", transpose_rhs),
        preferred_element_type=out_type(op, lhs, preferred_element_type),
        implementation=implementation,
    )
    return out
