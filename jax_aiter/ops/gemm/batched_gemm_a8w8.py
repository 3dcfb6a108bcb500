"""A batch of matrix products of quantised matrices with scales per row, per matrix or per tensor."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, integers, normal, uniform
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm import product
from jax_aiter.ops.gemm.scales import column
from jax_aiter.ops.quant.numerics import QUANTIZED


def _abstract(dims, *, XQ, WQ, x_scale, w_scale, bias, out_dtype):
    check.same_dtype("batched_gemm_a8w8", XQ=XQ.dtype, WQ=WQ.dtype)
    return (Struct((dims["B"], dims["M"], dims["N"]), out_dtype),)


def _reference(*, XQ, WQ, x_scale, w_scale, bias, out_dtype):
    acc = product.weight_dot(XQ, WQ).astype(jnp.float32) * x_scale * jnp.swapaxes(w_scale, -1, -2)
    return (product.finish(acc, bias, out_dtype),)


BATCHED_GEMM_A8W8 = Op(
    name="batched_gemm_a8w8",
    family="LINEAR",
    mirrors="aiter.batched_gemm_a8w8 (aiter/ops/batched_gemm_op_a8w8.py)",
    operands={
        "XQ": Arg("B M K", QUANTIZED),
        "WQ": Arg("B N K", QUANTIZED),
        "x_scale": Arg("B M 1", ("float32",)),
        "w_scale": Arg("B N 1", ("float32",)),
        "bias": Arg("B N", optional=True),
    },
    results={"y": "B M N"},
    abstract=_abstract,
    reference=_reference,
    parallel=("B", "M", "N"),
    fold="B",
    cases=lambda: [
        case(
            "fp8",
            XQ=normal(3, 5, 17, dtype=jnp.float8_e4m3fnuz),
            WQ=normal(3, 7, 17, dtype=jnp.float8_e4m3fnuz),
            x_scale=uniform(3, 5, 1, low=0.5, high=2.0),
            w_scale=uniform(3, 7, 1, low=0.5, high=2.0),
            out_dtype=jnp.dtype("bfloat16"),
        ),
        case(
            "int8_bias",
            XQ=integers(2, 1, 16, low=-127, high=128, dtype=jnp.int8),
            WQ=integers(2, 3, 16, low=-127, high=128, dtype=jnp.int8),
            x_scale=uniform(2, 1, 1, low=0.05, high=0.2),  # 16 products of 127 * 127 stay within float16
            w_scale=uniform(2, 3, 1, low=0.5, high=1.0),
            bias=normal(2, 3, dtype=jnp.bfloat16),
            out_dtype=jnp.dtype("float16"),
        ),
    ],
)


@public
def batched_gemm_a8w8(
    XQ: jax.Array,
    WQ: jax.Array,
    x_scale: jax.Array,
    w_scale: jax.Array,
    *,
    bias: jax.Array | None = None,
    out_dtype: Any = jnp.bfloat16,
    implementation: str | None = None,
) -> jax.Array:
    """``y[b] = (XQ[b] · WQ[b]ᵀ) * x_scale[b] * w_scale[b]ᵀ + bias[b]``; see `gemm_a8w8`.

    Args:
      XQ: ``[B, M, K]`` fp8 or int8.
      WQ: ``[B, N, K]``, the dtype of `XQ`.
      x_scale: float32 ``[B, M, 1]`` or ``[B, M]`` per row, ``[B, 1, 1]`` per matrix, or one for all (``[]``, ``[1]``, ...).
      w_scale: float32 ``[B, N, 1]``, ``[B, N]``, ``[B, 1, 1]`` or one for all. Kernels read one factor per row, so others are
        spread over the rows before them.
      bias: ``[B, N]``, float.
      out_dtype: bfloat16, float16 or float32.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[B, M, N]`` in `out_dtype`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.batched_gemm_a8w8``.
    """
    out_dtype = check.static_dtype("batched_gemm_a8w8", "out_dtype", out_dtype, product.OUT_TYPES)
    scales: dict[str, Any] = {"x_scale": column(x_scale, XQ.shape[:-1]), "w_scale": column(w_scale, WQ.shape[:-1])}
    return BATCHED_GEMM_A8W8(XQ=XQ, WQ=WQ, **scales, bias=bias, out_dtype=out_dtype, implementation=implementation)[0]
