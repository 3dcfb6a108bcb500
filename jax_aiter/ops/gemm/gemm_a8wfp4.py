"""Matrix product of fp8 activations, a scale per token, with MXFP4 weights."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FP8_TYPES, Arg
from jax_aiter.core.cases import case, integers, normal, uniform
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm import product
from jax_aiter.ops.gemm.fp4 import BYTES, check_columns, wide
from jax_aiter.ops.gemm.rows import over_rows
from jax_aiter.ops.gemm.scales import column

OP = "gemm_a8wfp4"


def _abstract(dims, *, x, w, x_scales, w_scales, out_dtype):
    check_columns(OP, x, w, w_scales)
    return (Struct((dims["M"], dims["N"]), out_dtype),)


def _reference(*, x, w, x_scales, w_scales, out_dtype):
    return (product.finish(product.dot(x, wide(w, w_scales)) * x_scales, None, out_dtype),)


GEMM_A8WFP4 = Op(
    name=OP,
    family="LINEAR",
    mirrors="aiter.ops.triton.gemm.basic.gemm_a8wfp4.gemm_a8wfp4",
    operands={
        "x": Arg("M K", FP8_TYPES),
        "w": Arg("N C", BYTES),
        "x_scales": Arg("M 1", ("float32",)),
        "w_scales": Arg("N G", BYTES),
    },
    results={"y": "M N"},
    abstract=_abstract,
    reference=_reference,
    parallel=("M", "N"),
    fold="M",
    batch=product.batching(left=("x", "x_scales"), right=("w", "w_scales"), many=None),
    cases=lambda: [
        case(
            "ocp",
            x=normal(5, 64, dtype=jnp.float8_e4m3fn),
            w=integers(7, 32, low=0, high=256, dtype=jnp.uint8),
            x_scales=uniform(5, 1, low=0.5, high=2.0),
            w_scales=integers(7, 2, low=120, high=130, dtype=jnp.uint8),
            out_dtype=jnp.dtype("bfloat16"),
        ),
    ],
)


@public
def gemm_a8wfp4(
    x: jax.Array,
    w: jax.Array,
    x_scales: jax.Array,
    w_scales: jax.Array,
    *,
    out_dtype: Any = jnp.bfloat16,
    implementation: str | None = None,
) -> jax.Array:
    """``y = (x · (w * 2^(w_scales - 127))ᵀ) * x_scales``, accumulated in float32 and rounded once.

    Args:
      x: ``[..., K]`` fp8; K a multiple of 32. AITER's kernel takes float8_e4m3fn.
      w: ``[N, K/2]`` uint8, packed fp4 as `dynamic_mxfp4_quant` makes it.
      x_scales: float32, one factor per token, ``[..., 1]`` or ``[...]``, or one for all (``[]``, ``[1]``, ``[1, 1]``).
      w_scales: ``[N, K/32]`` uint8 e8m0, in plain order.
      out_dtype: bfloat16, float16 or float32.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., N]`` in `out_dtype`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.triton.gemm.basic.gemm_a8wfp4``.
    """
    return over_rows(
        GEMM_A8WFP4,
        x=x,
        w=w,
        x_scales=column(x_scales, x.shape[:-1]),
        w_scales=w_scales,
        out_dtype=check.static_dtype(OP, "out_dtype", out_dtype, product.OUT_TYPES),
        implementation=implementation,
    )
