"""Matrix product of float activations, quantised to MXFP4 inside, with MXFP4 weights."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING, Arg
from jax_aiter.core.cases import case, integers, normal
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm import product
from jax_aiter.ops.gemm.fp4 import BYTES, check_columns, wide
from jax_aiter.ops.gemm.rows import over_rows
from jax_aiter.ops.quant import mx

OP = "gemm_a16wfp4"


def _abstract(dims, *, x, w, w_scales, out_dtype):
    check_columns(OP, x, w, w_scales)
    return (Struct((dims["M"], dims["N"]), out_dtype),)


def quantised(x: jax.Array) -> jax.Array:
    """The values of MXFP4 that stand for x, as bfloat16."""
    return wide(*mx.quantize(x, "even"))


def _reference(*, x, w, w_scales, out_dtype):
    return (product.finish(product.dot(quantised(x), wide(w, w_scales)), None, out_dtype),)


GEMM_A16WFP4 = Op(
    name=OP,
    family="LINEAR",
    mirrors="aiter.ops.triton.gemm.basic.gemm_a16wfp4.gemm_a16wfp4",
    operands={"x": Arg("M K", FLOATING), "w": Arg("N C", BYTES), "w_scales": Arg("N G", BYTES)},
    results={"y": "M N"},
    abstract=_abstract,
    reference=_reference,
    parallel=("M", "N"),
    fold="M",
    batch=product.batching(left=("x",), right=("w", "w_scales"), many=None),
    cases=lambda: [
        case(
            "bf16",
            x=normal(5, 64, dtype=jnp.bfloat16),
            w=integers(7, 32, low=0, high=256, dtype=jnp.uint8),
            w_scales=integers(7, 2, low=120, high=130, dtype=jnp.uint8),
            out_dtype=jnp.dtype("bfloat16"),
        ),
    ],
)


@public
def gemm_a16wfp4(
    x: jax.Array,
    w: jax.Array,
    w_scales: jax.Array,
    *,
    out_dtype: Any = jnp.bfloat16,
    implementation: str | None = None,
) -> jax.Array:
    """``y = mxfp4(x) · (w * 2^(w_scales - 127))ᵀ``: `dynamic_mxfp4_quant` of x and `gemm_a4w4` in one.

    Args:
      x: ``[..., K]`` float, K a multiple of 32. Each 32 columns become e2m1 elements and a power of two (`scaling_mode` "even").
      w: ``[N, K/2]`` uint8, packed fp4 as `dynamic_mxfp4_quant` makes it.
      w_scales: ``[N, K/32]`` uint8 e8m0, in plain order.
      out_dtype: bfloat16, float16 or float32.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., N]`` in `out_dtype`, accumulated in float32 and rounded once.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.triton.gemm.basic.gemm_a16wfp4``, whose partial sums by atomic addition there is no argument for.
    """
    return over_rows(
        GEMM_A16WFP4,
        x=x,
        w=w,
        w_scales=w_scales,
        out_dtype=check.static_dtype(OP, "out_dtype", out_dtype, product.OUT_TYPES),
        implementation=implementation,
    )
