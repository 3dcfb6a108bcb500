"""GeGLU's gate: ``gelu(gate) * linear`` with the exact (erf) gelu."""

import jax

from jax_aiter.bind.public import public
from jax_aiter.ops.activation import gated
from jax_aiter.ops.activation.activations import gelu, gelu_slope

GELU_AND_MUL = gated.make("gelu_and_mul", "aiter.gelu_and_mul (aiter/ops/activation.py)", gelu, gelu_slope)


@public
def gelu_and_mul(x: jax.Array, *, implementation: str | None = None) -> jax.Array:
    """``gelu(x[..., :d]) * x[..., d:]`` computed in float32, one rounding.

    The gelu is the exact one, ``g/2 · (1 + erf(g/√2))``, as in AITER's kernel; the tanh form is `gelu_tanh_and_mul`.

    Args:
      x: ``[..., 2d]`` float32, bfloat16 or float16: the gate half, then the linear half.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., d]``, the dtype of `x`. Differentiable in `x`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.gelu_and_mul``.
    """
    return GELU_AND_MUL(x=x, limit=0.0, implementation=implementation)[0]
