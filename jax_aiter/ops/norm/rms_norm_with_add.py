"""Residual addition and RMS normalisation in one pass."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.norm.rms_norm import check_weight, normalize, offset_weight, pull_back, wide_sum


def _abstract(dims, *, x, residual, weight, epsilon):
    check.same_dtype("rms_norm_with_add", x=x.dtype, residual=residual.dtype)
    check_weight("rms_norm_with_add", x, weight)
    return x, x


def _reference(*, x, residual, weight, epsilon):
    total = wide_sum(x, residual)
    return normalize(total, weight, epsilon).astype(x.dtype), total.astype(x.dtype)


def backward(saved, cotangents, *, implementation, epsilon):
    total = wide_sum(saved["x"], saved["residual"])
    dtotal, dweight = pull_back(total, saved["weight"], cotangents["y"], epsilon)
    dtotal = dtotal + cotangents["residual_out"].astype(jnp.float32)
    return {"x": dtotal, "residual": dtotal, "weight": dweight}


RMS_NORM_WITH_ADD = Op(
    name="rms_norm_with_add",
    family="NORM",
    mirrors="aiter.rmsnorm2d_fwd_with_add (aiter/ops/rmsnorm.py)",
    operands={"x": Arg("... D"), "residual": Arg("... D"), "weight": Arg("D")},
    results={"y": "... D", "residual_out": "... D"},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    gradient=Gradient(wrt=("x", "residual", "weight"), saves=("x", "residual", "weight"), backward=backward),
    cases=lambda: [
        case("even", x=normal(2, 3, 16), residual=normal(2, 3, 16), weight=normal(16), epsilon=1e-6),
        case("row", x=normal(1, 8), residual=normal(1, 8), weight=normal(8), epsilon=1e-6),
        case(
            "wide_weight",
            x=normal(4, 16, dtype=jnp.float16),
            residual=normal(4, 16, dtype=jnp.float16),
            weight=normal(16),
            epsilon=1e-6,
        ),
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
def rms_norm_with_add(
    x: jax.Array,
    residual: jax.Array,
    weight: jax.Array,
    epsilon: float = 1e-6,
    *,
    weight_offset: float = 0.0,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """``residual_out = x + residual``; ``y = rms_norm(residual_out, weight, epsilon)``, both computed in float32.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16.
      residual: the shape and dtype of `x`.
      weight: ``[D]``, the dtype of `x` or float32.
      epsilon: static, > 0, added to the mean of the squares.
      weight_offset: static, added to `weight` in float32, as for `rms_norm`.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``y`` and ``residual_out``, the shape and dtype of `x`. The norm is of the sum before it is rounded to the dtype of `x`.
      Differentiable in `x`, `residual` and `weight`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.rmsnorm2d_fwd_with_add``.
    """
    epsilon = check.real("rms_norm_with_add", "epsilon", epsilon, low=0.0, open_low=True)
    weight = offset_weight(RMS_NORM_WITH_ADD, weight_offset, epsilon, x=x, residual=residual, weight=weight)
    y, total = RMS_NORM_WITH_ADD(x=x, residual=residual, weight=weight, epsilon=epsilon, implementation=implementation)
    return y, total
