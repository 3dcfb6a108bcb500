"""The product of two matrices' rows, group by group: the gradient of a grouped GEMM's matrices."""

from typing import Any

import jax

from jax_aiter.bind.public import public
from jax_aiter.ops.moe.grouped import TRANSPOSED_GROUPED_GEMM, out_type


@public
def transposed_grouped_gemm(
    lhs: jax.Array,
    rhs: jax.Array,
    group_sizes: jax.Array,
    *,
    preferred_element_type: Any = None,
    implementation: str | None = None,
) -> jax.Array:
    """``out[g] = Σ_m lhs[m]ᵀ · rhs[m]`` over the rows m of each group g, accumulated in float32.

    Args:
      lhs: ``[M, K]`` float32, bfloat16, float16 or fp8: the rows of group 0, then of group 1, and so on. AITER's kernels take it
        as ``[K, M]`` in column-major order, which is the same memory.
      rhs: ``[M, N]``, the dtype of `lhs`.
      group_sizes: int32 ``[G]``, as for `grouped_gemm`: rows behind the last group are not read.
      preferred_element_type: float32, bfloat16 or float16, the dtype of the result; None: that of `lhs`, bfloat16 for fp8.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[G, K, N]``, zeros for a group of no rows. Differentiable in `lhs` and `rhs` (not in fp8 operands).

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule; `debug_checks` reports bad group sizes.

    Mirrors ``aiter.ops.triton.gmm.ptgmm``.
    """
    op = "transposed_grouped_gemm"
    dtype = out_type(op, lhs, preferred_element_type)
    (out,) = TRANSPOSED_GROUPED_GEMM(
        lhs=lhs, rhs=rhs, group_sizes=group_sizes, preferred_element_type=dtype, implementation=implementation
    )
    return out
