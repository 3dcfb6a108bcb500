"""RMS normalisation over the last axis."""

import jax
import jax.numpy as jnp

from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.op import Op


def _abstract(dims, *, x, weight, epsilon):
    check.same_dtype("rms_norm", x=x.dtype, weight=weight.dtype)
    return (x,)


def _reference(*, x, weight, epsilon):
    x32 = x.astype(jnp.float32)
    inv = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + epsilon)
    return ((x32 * inv * weight.astype(jnp.float32)).astype(x.dtype),)


def _backward(saved, cotangents, *, implementation, epsilon):
    x, weight, dy = (a.astype(jnp.float32) for a in (saved["x"], saved["weight"], cotangents["y"]))
    inv = jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon)
    xhat = x * inv
    dxhat = dy * weight
    dx = inv * (dxhat - xhat * jnp.mean(dxhat * xhat, axis=-1, keepdims=True))
    return {"x": dx, "weight": jnp.sum(dy * xhat, axis=tuple(range(dy.ndim - 1)))}


RMS_NORM = Op(
    name="rms_norm",
    family="NORM",
    mirrors="aiter.rms_norm (aiter/ops/rmsnorm.py)",
    operands={"x": Arg("... D"), "weight": Arg("D")},
    results={"y": "... D"},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    gradient=Gradient(wrt=("x", "weight"), saves=("x", "weight"), backward=_backward),
    cases=lambda: [
        case("row", x=normal(1, 8), weight=normal(8), epsilon=1e-6),
        case("odd", x=normal(5, 33, dtype=jnp.bfloat16), weight=normal(33, dtype=jnp.bfloat16), epsilon=1e-5),
        case("leading", x=normal(2, 3, 16, dtype=jnp.float16), weight=normal(16, dtype=jnp.float16), epsilon=1e-6),
    ],
)


def rms_norm(x: jax.Array, weight: jax.Array, epsilon: float = 1e-6, *, implementation: str | None = None) -> jax.Array:
    """``x / sqrt(mean(x², last axis) + epsilon) * weight``, accumulated in float32.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16.
      weight: ``[D]``, the dtype of `x`.
      epsilon: static, > 0.
      implementation: None (auto), ``"asm"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., D]``, the dtype of `x`. Differentiable in `x` and `weight`.

    Mirrors ``aiter.rms_norm``.
    """
    epsilon = check.real("rms_norm", "epsilon", epsilon, low=0.0, open_low=True)
    return RMS_NORM(x=x, weight=weight, epsilon=epsilon, implementation=implementation)[0]
