"""A batch of matrix products of 16-bit (or float32) matrices."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm import product


def _abstract(dims, *, XQ, WQ, bias, out_dtype):
    check.same_dtype("batched_gemm_bf16", XQ=XQ.dtype, WQ=WQ.dtype)
    return (Struct((dims["B"], dims["M"], dims["N"]), out_dtype),)


def _reference(*, XQ, WQ, bias, out_dtype):
    return (product.finish(product.weight_dot(XQ, WQ), bias, out_dtype),)


def _backward(saved, cotangents, *, implementation, out_dtype):
    a, b, dy = saved["XQ"], saved["WQ"], cotangents["y"]
    bias = jnp.sum(dy.astype(jnp.float32), axis=1)
    # A cotangent wider than the operands keeps its bits: the products run in the wider type.
    common = jnp.promote_types(dy.dtype, a.dtype)
    a, b, dy = a.astype(common), b.astype(common), dy.astype(common)
    (da,) = BATCHED_GEMM(XQ=dy, WQ=b.swapaxes(1, 2), out_dtype=saved["XQ"].dtype, implementation=implementation)
    (db,) = BATCHED_GEMM(XQ=dy.swapaxes(1, 2), WQ=a.swapaxes(1, 2), out_dtype=saved["WQ"].dtype, implementation=implementation)
    return {"XQ": da, "WQ": db, "bias": bias}


# The record takes float16 too, because gemm_a16w16 under vmap becomes this op.
BATCHED_GEMM = Op(
    name="batched_gemm_bf16",
    family="LINEAR",
    mirrors="aiter.batched_gemm_bf16 (aiter/ops/batched_gemm_op_bf16.py)",
    operands={"XQ": Arg("B M K"), "WQ": Arg("B N K"), "bias": Arg("B N", optional=True)},
    results={"y": "B M N"},
    abstract=_abstract,
    reference=_reference,
    parallel=("B", "M", "N"),
    fold="B",
    gradient=Gradient(wrt=("XQ", "WQ", "bias"), saves=("XQ", "WQ"), backward=_backward),
    cases=lambda: [
        case(
            "one", XQ=normal(1, 1, 8, dtype=jnp.bfloat16), WQ=normal(1, 3, 8, dtype=jnp.bfloat16), out_dtype=jnp.dtype("bfloat16")
        ),
        case(
            "bias",
            XQ=normal(3, 5, 17, dtype=jnp.bfloat16),
            WQ=normal(3, 7, 17, dtype=jnp.bfloat16),
            bias=normal(3, 7, dtype=jnp.bfloat16),
            out_dtype=jnp.dtype("float16"),
        ),
    ],
)


@public
def batched_gemm_bf16(
    XQ: jax.Array,
    WQ: jax.Array,
    *,
    bias: jax.Array | None = None,
    out_dtype: Any = None,
    implementation: str | None = None,
) -> jax.Array:
    """``y[b] = XQ[b] · WQ[b]ᵀ + bias[b]``, accumulated in float32.

    Args:
      XQ: ``[B, M, K]`` bfloat16, or float32, which no kernel of AITER's takes: XLA multiplies it, at full precision.
      WQ: ``[B, N, K]``, the dtype of `XQ`.
      bias: ``[B, N]``, float; added before the one rounding to `out_dtype`.
      out_dtype: bfloat16, float16 or float32; None is the dtype of `XQ`.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[B, M, N]`` in `out_dtype`. Differentiable in `XQ`, `WQ` and `bias`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.batched_gemm_bf16``.
    """
    for name, x in (("XQ", XQ), ("WQ", WQ)):
        dtype = getattr(x, "dtype", None)
        if dtype is not None and dtype not in (jnp.bfloat16, jnp.float32):
            raise TypeError(f"batched_gemm_bf16: {name} has dtype {jnp.dtype(dtype).name}, must be bfloat16 or float32")
    out_dtype = XQ.dtype if out_dtype is None else out_dtype
    out_dtype = check.static_dtype("batched_gemm_bf16", "out_dtype", out_dtype, product.OUT_TYPES)
    return BATCHED_GEMM(XQ=XQ, WQ=WQ, bias=bias, out_dtype=out_dtype, implementation=implementation)[0]
