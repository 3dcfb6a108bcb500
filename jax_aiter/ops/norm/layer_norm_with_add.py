"""Residual addition and layer normalisation in one pass."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.norm.layer_norm import check_weights, normalize, pull_back
from jax_aiter.ops.norm.rms_norm import wide_sum


def _abstract(dims, *, x, residual, weight, bias, epsilon):
    check.same_dtype("layer_norm_with_add", x=x.dtype, residual=residual.dtype)
    check_weights("layer_norm_with_add", x, weight=weight, bias=bias)
    return x, x


def _reference(*, x, residual, weight, bias, epsilon):
    total = wide_sum(x, residual)
    return normalize(total, weight, bias, epsilon).astype(x.dtype), total.astype(x.dtype)


def _backward(saved, cotangents, *, implementation, epsilon):
    found = pull_back(wide_sum(saved["x"], saved["residual"]), saved["weight"], cotangents["y"], epsilon)
    dtotal = found.pop("x") + cotangents["residual_out"].astype(jnp.float32)
    return {"x": dtotal, "residual": dtotal, **found}


LAYER_NORM_WITH_ADD = Op(
    name="layer_norm_with_add",
    family="NORM",
    mirrors="aiter.layernorm2d_fwd_with_add (aiter/ops/norm.py)",
    operands={"x": Arg("... D"), "residual": Arg("... D"), "weight": Arg("D"), "bias": Arg("D", optional=True)},
    results={"y": "... D", "residual_out": "... D"},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    gradient=Gradient(wrt=("x", "residual", "weight", "bias"), saves=("x", "residual", "weight"), backward=_backward),
    cases=lambda: [
        case("even", x=normal(2, 3, 16), residual=normal(2, 3, 16), weight=normal(16), bias=normal(16), epsilon=1e-6),
        case(
            "odd",
            x=normal(5, 33, dtype=jnp.bfloat16),
            residual=normal(5, 33, dtype=jnp.bfloat16),
            weight=normal(33, dtype=jnp.bfloat16),
            epsilon=1e-5,
        ),
    ],
)


@public
def layer_norm_with_add(
    x: jax.Array,
    residual: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    epsilon: float = 1e-5,
    *,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """``residual_out = x + residual``; ``y = layer_norm(residual_out, weight, bias, epsilon)``, both computed in float32.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16.
      residual: the shape and dtype of `x`.
      weight: ``[D]``, the dtype of `x` or float32.
      bias: ``[D]``, the dtype of `x` or float32; absent, nothing is added to the norm.
      epsilon: static, > 0, added to the variance.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``y`` and ``residual_out``, the shape and dtype of `x`. The norm is of the sum before it is rounded to the dtype of `x`;
      AITER's Triton kernel rounds it first. Differentiable in `x`, `residual`, `weight` and `bias`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.layernorm2d_fwd_with_add``; its ``x_bias``, which is added to `x` first, is not taken.
    """
    epsilon = check.real("layer_norm_with_add", "epsilon", epsilon, low=0.0, open_low=True)
    y, total = LAYER_NORM_WITH_ADD(x=x, residual=residual, weight=weight, bias=bias, epsilon=epsilon, implementation=implementation)
    return y, total
