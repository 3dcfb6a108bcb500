"""Matrix product of unquantised matrices, the weight stored row per output feature."""

from typing import Any

import jax

from jax_aiter.bind.public import public
from jax_aiter.ops.gemm import product
from jax_aiter.ops.gemm.a16w16 import GEMM, out_type
from jax_aiter.ops.gemm.gemm_a16w16_bpreshuffle import GEMM_BPRESHUFFLE
from jax_aiter.ops.gemm.rows import over_rows
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight


@public
def gemm_a16w16(
    a: jax.Array,
    b: jax.Array | ShuffledWeight,
    *,
    bias: jax.Array | None = None,
    out_dtype: Any = None,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """``y = a · bᵀ + bias``, accumulated in float32.

    Args:
      a: ``[..., K]`` bfloat16, float16 or float32.
      b: ``[N, K]``, the dtype of `a`: one row per output feature, as AITER and PyTorch store a linear layer's weight.
        A `ShuffledWeight` of layout (16, 16) makes this `gemm_a16w16_bpreshuffle`.
      bias: ``[N]``, float; added before the one rounding to `out_dtype`.
      out_dtype: bfloat16, float16 or float32; None is the dtype of `a`.
      implementation: None (auto), ``"asm"``, ``"triton"`` or ``"xla"``; the gradient's two GEMMs run under the same choice.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[..., N]`` in `out_dtype`. Differentiable in `a`, `b` and `bias`. Hand-written kernels that split K (``splitk_clean``) add
      the parts in no fixed order, so last bits may differ between runs.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.gemm_a16w16``.
    """
    out_dtype = out_type("gemm_a16w16", a, out_dtype)
    if isinstance(b, ShuffledWeight):
        b = product.shuffled_data("gemm_a16w16", "b", b)
        return over_rows(GEMM_BPRESHUFFLE, a=a, b=b, bias=bias, out_dtype=out_dtype, implementation=implementation, kernel=kernel)
    return over_rows(GEMM, a=a, b=b, bias=bias, out_dtype=out_dtype, implementation=implementation, kernel=kernel)
