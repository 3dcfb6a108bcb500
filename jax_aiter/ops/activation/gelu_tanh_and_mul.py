"""GeGLU's gate with the tanh form of gelu (Gemma's): ``gelu_tanh(gate) * linear``."""

import jax

from jax_aiter.bind.public import public
from jax_aiter.ops.activation import gated
from jax_aiter.ops.activation.activations import gelu_tanh, gelu_tanh_slope

GELU_TANH_AND_MUL = gated.make("gelu_tanh_and_mul", "aiter.gelu_tanh_and_mul (aiter/ops/activation.py)", gelu_tanh, gelu_tanh_slope)


@public
def gelu_tanh_and_mul(x: jax.Array, *, implementation: str | None = None) -> jax.Array:
    """``gelu_tanh(x[..., :d]) * x[..., d:]`` computed in float32, one rounding.

    The gelu is the tanh form, ``g/2 · (1 + tanh(√(2/π) (g + 0.044715 g³)))``; the exact one is `gelu_and_mul`.

    Args:
      x: ``[..., 2d]`` float32, bfloat16 or float16: the gate half, then the linear half.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., d]``, the dtype of `x`. Differentiable in `x`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.gelu_tanh_and_mul``.
    """
    return GELU_TANH_AND_MUL(x=x, limit=0.0, implementation=implementation)[0]
