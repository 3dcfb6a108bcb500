"""The gated MLP of a layer, or of the expert that every token takes."""

from typing import Any

import jax

import jax_aiter
from examples.llm.config import Mlp
from examples.llm.linear import linear

GATED = {"silu": jax_aiter.silu_and_mul, "gelu": jax_aiter.gelu_and_mul, "gelu_tanh": jax_aiter.gelu_tanh_and_mul}


def mlp(p: dict[str, Any], m: Mlp, x: jax.Array) -> jax.Array:
    """``[..., M]`` to ``[..., M]``; ``gate_up`` has the gate's rows first."""
    return linear(GATED[m.activation](linear(x, p["gate_up"])), p["down"], axis=m.axis)
