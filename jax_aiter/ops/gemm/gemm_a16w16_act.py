"""The record of gemm_a16w16 with an activation function at its end, made from the plain record by what differs."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp

from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.activation import activations
from jax_aiter.ops.gemm import product
from jax_aiter.ops.gemm.a16w16 import GEMM, backward, batching, result

OP = "gemm_a16w16_act"
#: by name, the function and its slope
ACTIVATIONS: Mapping[str, tuple[activations.Function, activations.Function]] = {
    "gelu": (activations.gelu, activations.gelu_slope),
    "gelu_tanh": (activations.gelu_tanh, activations.gelu_tanh_slope),
    "silu": (activations.silu, activations.silu_slope),
    "relu": (lambda z: jnp.maximum(z, 0), lambda z: (z > 0).astype(z.dtype)),
}
#: AITER's other names
SAME = {"silu_exp2": "silu"}
NAMES = (*ACTIVATIONS, *SAME)


def _abstract(dims, *, activation, **arguments):
    return result(OP, dims, **arguments)


def _reference(*, a, b, bias, out_dtype, activation):
    z = product.finish(product.weight_dot(a, b), bias, jnp.dtype("float32"))
    return (ACTIVATIONS[activation][0](z).astype(out_dtype),)


def _backward(saved, cotangents, *, implementation, out_dtype, activation):
    """The product is computed again, in float32, which is cheaper than to keep it; what goes back is of the cotangent's dtype."""
    dy, bias = cotangents["y"], saved.get("bias")
    (z,) = GEMM(a=saved["a"], b=saved["b"], bias=bias, out_dtype=jnp.dtype("float32"), implementation=implementation)
    dz = (dy.astype(jnp.float32) * ACTIVATIONS[activation][1](z)).astype(dy.dtype)
    return backward(saved, {"y": dz}, implementation=implementation, out_dtype=out_dtype)


GEMM_ACT = dataclasses.replace(
    GEMM,
    name=OP,
    mirrors="aiter.ops.triton.gemm.basic.gemm_a16w16 with an activation",
    abstract=_abstract,
    reference=_reference,
    batch=batching(many=None),
    gradient=Gradient(wrt=("a", "b", "bias"), saves=("a", "b", "bias"), backward=_backward),
    cases=lambda: [
        case(
            "gelu",
            a=normal(5, 33, dtype=jnp.bfloat16),
            b=normal(7, 33, dtype=jnp.bfloat16, std=0.2),
            bias=normal(7, dtype=jnp.bfloat16),
            out_dtype=jnp.dtype("float32"),
            activation="gelu",
        ),
        case("silu", a=normal(2, 8), b=normal(3, 8), out_dtype=jnp.dtype("float32"), activation="silu"),
    ],
)
