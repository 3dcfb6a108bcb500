"""RMS normalisation over the last axis."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient


def normalize(x: jax.Array, weight: jax.Array, epsilon: float) -> jax.Array:
    """The norm of a float32 `x`, in float32."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight.astype(jnp.float32)


def pull_back(x: jax.Array, weight: jax.Array, dy: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """Cotangents of `normalize` with respect to `x` and `weight`, in float32."""
    weight, dy = weight.astype(jnp.float32), dy.astype(jnp.float32)
    inv = jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon)
    xhat, dxhat = x * inv, dy * weight
    dx = inv * (dxhat - xhat * jnp.mean(dxhat * xhat, axis=-1, keepdims=True))
    return dx, jnp.sum(dy * xhat, axis=tuple(range(dy.ndim - 1)))


def wide_sum(x, residual):
    """``x + residual`` in float32: norms read the sum, not its rounded copy, as AITER's kernels do."""
    return x.astype(jnp.float32) + residual.astype(jnp.float32)


def check_weight(op: str, x: jax.ShapeDtypeStruct, weight: jax.ShapeDtypeStruct, name: str = "weight", of: str = "x") -> None:
    """A weight is multiplied in float32, so it may have that precision whatever the activations have."""
    if weight.dtype not in (x.dtype, jnp.float32):
        allowed = "float32" if x.dtype == jnp.float32 else f"{x.dtype.name}, or float32"
        raise TypeError(f"{op}: {name} has dtype {weight.dtype.name}, must be that of {of}, {allowed}")


def offset_weight(op: Op, weight_offset: float, epsilon: float, **operands: jax.Array) -> jax.Array:
    """``weight + weight_offset`` in float32, once the call is checked: in bfloat16, 1 + w would keep few bits of a small w."""
    return offset_weights(op, weight_offset, {"epsilon": epsilon}, operands, "weight")[0]


def offset_weights(
    op: Op, weight_offset: float, params: Mapping[str, Any], operands: Mapping[str, jax.Array | None], *names: str
) -> list[jax.Array]:
    """`offset_weight` of several of the operands of a call with these parameters."""
    offset = check.real(op.name, "weight_offset", weight_offset)
    found = [x for x in map(operands.get, names) if x is not None]
    if offset == 0.0:
        return found
    op.infer({n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in operands.items() if x is not None}, params)
    return [x.astype(jnp.float32) + jnp.float32(offset) for x in found]


def _abstract(dims, *, x, weight, epsilon):
    check_weight("rms_norm", x, weight)
    return (x,)


def _reference(*, x, weight, epsilon):
    return (normalize(x.astype(jnp.float32), weight, epsilon).astype(x.dtype),)


def _backward(saved, cotangents, *, implementation, epsilon):
    dx, dweight = pull_back(saved["x"].astype(jnp.float32), saved["weight"], cotangents["y"], epsilon)
    return {"x": dx, "weight": dweight}


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
        case("wide_weight", x=normal(4, 16, dtype=jnp.bfloat16), weight=normal(16), epsilon=1e-6),
        case("leading", x=normal(2, 3, 16, dtype=jnp.float16), weight=normal(16, dtype=jnp.float16), epsilon=1e-6),
    ],
)


@public
def rms_norm(
    x: jax.Array, weight: jax.Array, epsilon: float = 1e-6, *, weight_offset: float = 0.0, implementation: str | None = None
) -> jax.Array:
    """``x / sqrt(mean(x², last axis) + epsilon) * weight``, accumulated in float32.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16.
      weight: ``[D]``, the dtype of `x` or float32.
      epsilon: static, > 0.
      weight_offset: static, added to `weight` in float32: 1.0 for models that store w and scale by 1 + w (Gemma).
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., D]``, the dtype of `x`. Differentiable in `x` and `weight`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.rms_norm``.
    """
    epsilon = check.real("rms_norm", "epsilon", epsilon, low=0.0, open_low=True)
    weight = offset_weight(RMS_NORM, weight_offset, epsilon, x=x, weight=weight)
    return RMS_NORM(x=x, weight=weight, epsilon=epsilon, implementation=implementation)[0]
