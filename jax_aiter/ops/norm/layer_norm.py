"""Layer normalisation over the last axis."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.norm.rms_norm import check_weight


def standardize(x: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """A float32 `x` less its mean over its deviation, and one over the deviation."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)  # then squared: the mean of squares less the squared mean cancels
    inverse = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return centred * inverse, inverse


def normalize(x: jax.Array, weight: jax.Array, bias: jax.Array | None, epsilon: float) -> jax.Array:
    """The norm of a float32 `x`, in float32."""
    y = standardize(x, epsilon)[0] * weight.astype(jnp.float32)
    return y if bias is None else y + bias.astype(jnp.float32)


def pull_back(x: jax.Array, weight: jax.Array, dy: jax.Array, epsilon: float) -> dict[str, jax.Array]:
    """Cotangents of `normalize` with respect to `x`, `weight` and `bias`, in float32."""
    dy = dy.astype(jnp.float32)
    xhat, inverse = standardize(x, epsilon)
    dxhat = dy * weight.astype(jnp.float32)
    along = jnp.mean(dxhat * xhat, axis=-1, keepdims=True)
    dx = inverse * (dxhat - jnp.mean(dxhat, axis=-1, keepdims=True) - xhat * along)
    rows = tuple(range(dy.ndim - 1))
    return {"x": dx, "weight": jnp.sum(dy * xhat, axis=rows), "bias": jnp.sum(dy, axis=rows)}


def _abstract(dims, *, x, weight, bias, epsilon):
    check_weights("layer_norm", x, weight=weight, bias=bias)
    return (x,)


def check_weights(op: str, x: jax.ShapeDtypeStruct, **weights: jax.ShapeDtypeStruct | None) -> None:
    for name, weight in weights.items():
        if weight is not None:
            check_weight(op, x, weight, name)


def _reference(*, x, weight, bias, epsilon):
    return (normalize(x.astype(jnp.float32), weight, bias, epsilon).astype(x.dtype),)


def _backward(saved, cotangents, *, implementation, epsilon):
    return pull_back(saved["x"].astype(jnp.float32), saved["weight"], cotangents["y"], epsilon)


LAYER_NORM = Op(
    name="layer_norm",
    family="NORM",
    mirrors="aiter.layer_norm, layernorm2d_fwd (aiter/ops/norm.py)",
    operands={"x": Arg("... D"), "weight": Arg("D"), "bias": Arg("D", optional=True)},
    results={"y": "... D"},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    gradient=Gradient(wrt=("x", "weight", "bias"), saves=("x", "weight"), backward=_backward),
    cases=lambda: [
        case(
            "odd",
            x=normal(5, 33, dtype=jnp.bfloat16),
            weight=normal(33, dtype=jnp.bfloat16),
            bias=normal(33, dtype=jnp.bfloat16),
            epsilon=1e-5,
        ),
        case("wide_weight", x=normal(2, 3, 16, dtype=jnp.float16), weight=normal(16), epsilon=1e-6),
    ],
)


@public
def layer_norm(
    x: jax.Array, weight: jax.Array, bias: jax.Array | None = None, epsilon: float = 1e-5, *, implementation: str | None = None
) -> jax.Array:
    """``(x - mean) / sqrt(variance + epsilon) * weight + bias`` over the last axis, accumulated in float32.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16.
      weight: ``[D]``, the dtype of `x` or float32.
      bias: ``[D]``, the dtype of `x` or float32; absent, nothing is added.
      epsilon: static, > 0.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., D]``, the dtype of `x`. Differentiable in `x`, `weight` and `bias`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.layer_norm``; its ``x_bias``, which is added to `x` first, is not taken.
    """
    epsilon = check.real("layer_norm", "epsilon", epsilon, low=0.0, open_low=True)
    return LAYER_NORM(x=x, weight=weight, bias=bias, epsilon=epsilon, implementation=implementation)[0]
