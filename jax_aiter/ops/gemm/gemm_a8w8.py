"""Matrix product of quantised matrices: scales per token or per tensor, per output feature or per tensor."""

import functools
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
from jax_aiter.ops.gemm.batched_gemm_a8w8 import BATCHED_GEMM_A8W8
from jax_aiter.ops.gemm.rows import over_rows
from jax_aiter.ops.gemm.scales import column
from jax_aiter.ops.quant.numerics import QUANTIZED


def result(op: str, dims, *, xq, wq, x_scale, w_scale, bias, out_dtype):
    check.same_dtype(op, xq=xq.dtype, wq=wq.dtype)
    return (Struct((dims["M"], dims["N"]), out_dtype),)


def reference(*, xq, wq, x_scale, w_scale, bias, out_dtype, layout=None):
    """layout: the order of a shuffled `wq`."""
    # Scaling the product, not the operands: the scales are constant along K, and the fp8 products stay exact.
    acc = product.weight_dot(xq, wq, layout).astype(jnp.float32) * x_scale * w_scale.T
    return (product.finish(acc, bias, out_dtype),)


def _many(batched, *, out_dtype):
    names = {"xq": "XQ", "wq": "WQ", "x_scale": "x_scale", "w_scale": "w_scale", "bias": "bias"}
    operands = {new: batched.broadcast(old) for old, new in names.items() if batched.get(old) is not None}
    return BATCHED_GEMM_A8W8(**operands, out_dtype=out_dtype, implementation=batched.implementation)


#: the batching rule, told the batched GEMM
batching = functools.partial(product.batching, left=("xq", "x_scale"), right=("wq", "w_scale", "bias"))

GEMM_A8W8 = Op(
    name="gemm_a8w8",
    family="LINEAR",
    mirrors="aiter.gemm_a8w8 (aiter/ops/gemm_op_a8w8.py)",
    operands={
        "xq": Arg("M K", QUANTIZED),
        "wq": Arg("N K", QUANTIZED),
        "x_scale": Arg("M 1", ("float32",)),
        "w_scale": Arg("N 1", ("float32",)),
        "bias": Arg("N", optional=True),
    },
    results={"y": "M N"},
    abstract=functools.partial(result, "gemm_a8w8"),
    reference=reference,
    parallel=("M", "N"),
    fold="M",
    batch=batching(many=_many),
    cases=lambda: [
        case(
            "fp8",
            xq=normal(5, 33, dtype=jnp.float8_e4m3fnuz),
            wq=normal(7, 33, dtype=jnp.float8_e4m3fnuz),
            x_scale=uniform(5, 1, low=0.5, high=2.0),
            w_scale=uniform(7, 1, low=0.5, high=2.0),
            out_dtype=jnp.dtype("bfloat16"),
        ),
        case(
            "ocp_bias",
            xq=normal(1, 16, dtype=jnp.float8_e4m3fn),
            wq=normal(3, 16, dtype=jnp.float8_e4m3fn),
            x_scale=uniform(1, 1, low=0.5, high=2.0),
            w_scale=uniform(3, 1, low=0.5, high=2.0),
            bias=normal(3, dtype=jnp.bfloat16),
            out_dtype=jnp.dtype("float16"),
        ),
        case(
            "int8",
            xq=integers(4, 16, low=-127, high=128, dtype=jnp.int8),
            wq=integers(6, 16, low=-127, high=128, dtype=jnp.int8),
            x_scale=uniform(4, 1, low=0.5, high=2.0),
            w_scale=uniform(6, 1, low=0.5, high=2.0),
            out_dtype=jnp.dtype("float32"),
        ),
    ],
)


@public
def gemm_a8w8(
    xq: jax.Array,
    wq: jax.Array,
    x_scale: jax.Array,
    w_scale: jax.Array,
    *,
    bias: jax.Array | None = None,
    out_dtype: Any = jnp.bfloat16,
    implementation: str | None = None,
) -> jax.Array:
    """``y = (xq · wqᵀ) * x_scale * w_scaleᵀ + bias``.

    The product accumulates in float32 for fp8 and exactly in int32 for int8; scales and bias apply in float32; one rounding.

    Args:
      xq: ``[..., K]`` fp8 (of the target's family) or int8.
      wq: ``[N, K]``, the dtype of `xq`, not preshuffled.
      x_scale: float32, dequantisation factors: ``[..., 1]`` or ``[...]`` per token (`per_token_quant` returns them so), or one for
        all, ``[]``, ``[1]`` or ``[1, 1]`` (`per_tensor_quant`). Of the leading axes some may be 1.
      w_scale: float32, ``[N, 1]`` or ``[N]`` per output feature, or one for all; whichever form `x_scale` has. Kernels read one
        factor per row, so what is for all is spread over the rows before them.
      bias: ``[N]``, float.
      out_dtype: bfloat16, float16 or float32.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., N]`` in `out_dtype`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.gemm_a8w8``.
    """
    out_dtype = check.static_dtype("gemm_a8w8", "out_dtype", out_dtype, product.OUT_TYPES)
    operands: dict[str, Any] = {"xq": xq, "wq": wq, "bias": bias}
    operands |= {"x_scale": column(x_scale, xq.shape[:-1]), "w_scale": column(w_scale, wq.shape[:-1])}
    return over_rows(GEMM_A8W8, **operands, out_dtype=out_dtype, implementation=implementation)
