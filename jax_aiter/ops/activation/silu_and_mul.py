"""SwiGLU's gate: ``silu(gate) * linear``."""

import jax

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.ops.activation import gated
from jax_aiter.ops.activation.activations import silu, silu_slope

SILU_AND_MUL = gated.make("silu_and_mul", "aiter.silu_and_mul (aiter/ops/activation.py)", silu, silu_slope)


@public
def silu_and_mul(x: jax.Array, *, limit: float = 0.0, implementation: str | None = None) -> jax.Array:
    """``silu(x[..., :d]) * x[..., d:]`` computed in float32, one rounding.

    Args:
      x: ``[..., 2d]`` float32, bfloat16 or float16: the gate half, then the linear half.
      limit: static, >= 0. If > 0 the gate is clamped to at most `limit` and the linear half to ±`limit` first.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., d]``, the dtype of `x`. Differentiable in `x`; the gradient is zero where a clamp is active.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.silu_and_mul``.
    """
    limit = check.real("silu_and_mul", "limit", limit, low=0.0)
    return SILU_AND_MUL(x=x, limit=limit, implementation=implementation)[0]
