"""A batch of matrix products of 16-bit (or float32) matrices."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.op import Op, Struct
from jax_aiter.ops import _gemm


def _abstract(dims, *, XQ, WQ, bias, out_dtype):
    check.same_dtype("batched_gemm_bf16", XQ=XQ.dtype, WQ=WQ.dtype)
    return (Struct((dims["B"], dims["M"], dims["N"]), out_dtype),)


def _reference(*, XQ, WQ, bias, out_dtype):
    return (_gemm.finish(_gemm.dot(XQ, WQ), bias, out_dtype),)


# The record takes every float dtype, because gemm_a16w16 under vmap becomes this op; the public function is AITER's bf16 one.
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


def batched_gemm_bf16(
    XQ: jax.Array,
    WQ: jax.Array,
    *,
    bias: jax.Array | None = None,
    out_dtype: Any = jnp.bfloat16,
    implementation: str | None = None,
) -> jax.Array:
    """``y[b] = XQ[b] · WQ[b]ᵀ + bias[b]``, accumulated in float32.

    Args:
      XQ: bfloat16 ``[B, M, K]``.
      WQ: bfloat16 ``[B, N, K]``.
      bias: ``[B, N]``, float; added before the one rounding to `out_dtype`.
      out_dtype: bfloat16, float16 or float32.
      implementation: None (auto), ``"asm"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[B, M, N]`` in `out_dtype`. Not differentiable; ``jax.vmap`` of `gemm_a16w16` is.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.batched_gemm_bf16``.
    """
    for name, x in (("XQ", XQ), ("WQ", WQ)):
        dtype = getattr(x, "dtype", None)
        if dtype is not None and dtype != jnp.bfloat16:
            raise TypeError(f"batched_gemm_bf16: {name} has dtype {jnp.dtype(dtype).name}, must be bfloat16")
    out_dtype = check.static_dtype("batched_gemm_bf16", "out_dtype", out_dtype, _gemm.OUT_TYPES)
    return BATCHED_GEMM(XQ=XQ, WQ=WQ, bias=bias, out_dtype=out_dtype, implementation=implementation)[0]
