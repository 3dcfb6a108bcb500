"""Matrix product of unquantised matrices, the weight stored row per output feature."""

from typing import Any

import jax

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.ops.gemm import gemm_a16w16_act as fused
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
    activation: str | None = None,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """``y = a · bᵀ + bias``, accumulated in float32; with `activation`, that function of it.

    Args:
      a: ``[..., K]`` bfloat16, float16 or float32.
      b: ``[N, K]``, the dtype of `a`: one row per output feature, as AITER and PyTorch store a linear layer's weight.
        A `ShuffledWeight` of layout (16, 16) makes this `gemm_a16w16_bpreshuffle`.
      bias: ``[N]``, float; added before the one rounding to `out_dtype`.
      out_dtype: bfloat16, float16 or float32; None is the dtype of `a`.
      activation: static; ``"gelu"`` (the exact one), ``"gelu_tanh"``, ``"silu"`` (``"silu_exp2"`` is another name of it) or
        ``"relu"``, applied in float32 before the one rounding. For a weight in plain order; AITER's Triton kernel has it, its
        hand-written kernels have not.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``; the gradient's two GEMMs run under the same
        choice.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[..., N]`` in `out_dtype`. Differentiable in `a`, `b` and `bias`. Hand-written kernels that split K (``splitk_clean``) add
      the parts in no fixed order, so last bits may differ between runs.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.gemm_a16w16``.
    """
    out_dtype = out_type("gemm_a16w16", a, out_dtype)
    if activation is not None:
        check.choice("gemm_a16w16", "activation", activation, fused.NAMES)
        if isinstance(b, ShuffledWeight):
            raise ValueError(f"gemm_a16w16: activation = {activation!r} with a shuffled b, must be None or b in plain order")
        call = {"implementation": implementation, "kernel": kernel, "activation": fused.SAME.get(activation, activation)}
        return over_rows(fused.GEMM_ACT, a=a, b=b, bias=bias, out_dtype=out_dtype, **call)
    if isinstance(b, ShuffledWeight):
        b = product.shuffled_data("gemm_a16w16", "b", b)
        return over_rows(GEMM_BPRESHUFFLE, a=a, b=b, bias=bias, out_dtype=out_dtype, implementation=implementation, kernel=kernel)
    return over_rows(GEMM, a=a, b=b, bias=bias, out_dtype=out_dtype, implementation=implementation, kernel=kernel)
