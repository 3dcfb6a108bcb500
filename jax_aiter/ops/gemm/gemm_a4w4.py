"""Matrix product of MXFP4 matrices: packed e2m1 elements, an e8m0 scale per 32 of them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, integers, normal
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm import product
from jax_aiter.ops.gemm.fp4 import BYTES, wide
from jax_aiter.ops.gemm.rows import over_rows
from jax_aiter.ops.quant.mx_dequant import width

OP = "gemm_a4w4"


def result(op: str, dims, *, A, A_scale, B, B_scale, bias, out_dtype):
    width(op, "A", A, "A_scale", A_scale.shape[-1])
    return (Struct((dims["M"], dims["N"]), out_dtype),)


def _reference(*, A, B, A_scale, B_scale, bias, out_dtype):
    return (product.finish(product.dot(wide(A, A_scale), wide(B, B_scale)), bias, out_dtype),)


GEMM_A4W4 = Op(
    name=OP,
    family="LINEAR",
    mirrors="aiter.gemm_a4w4 with bpreshuffle=False (aiter/ops/gemm_op_a4w4.py)",
    operands={
        "A": Arg("M K", BYTES),
        "B": Arg("N K", BYTES),
        "A_scale": Arg("M G", BYTES),
        "B_scale": Arg("N G", BYTES),
        "bias": Arg("N", optional=True),
    },
    results={"y": "M N"},
    abstract=functools.partial(result, OP),
    reference=_reference,
    parallel=("M", "N"),
    fold="M",
    batch=product.batching(left=("A", "A_scale"), right=("B", "B_scale", "bias"), many=None),
    cases=lambda: [
        case(
            "bias",
            A=integers(5, 48, low=0, high=256, dtype=jnp.uint8),
            B=integers(7, 48, low=0, high=256, dtype=jnp.uint8),
            A_scale=integers(5, 3, low=120, high=130, dtype=jnp.uint8),
            B_scale=integers(7, 3, low=120, high=130, dtype=jnp.uint8),
            bias=normal(7, std=100.0),
            out_dtype=jnp.dtype("bfloat16"),
        ),
    ],
)


@public
def gemm_a4w4(
    A: jax.Array,
    B: jax.Array,
    A_scale: jax.Array,
    B_scale: jax.Array,
    *,
    bias: jax.Array | None = None,
    out_dtype: Any = jnp.bfloat16,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """``y = (A * 2^(A_scale - 127)) · (B * 2^(B_scale - 127))ᵀ + bias``, accumulated in float32 and rounded once.

    Args:
      A: ``[..., K/2]`` uint8, packed fp4 as `dynamic_mxfp4_quant` makes it; K a multiple of 32.
      B: ``[N, K/2]`` uint8, not preshuffled: see `gemm_a4w4_bpreshuffle`, which all but one of AITER's kernels are for.
      A_scale, B_scale: uint8 e8m0, ``[..., K/32]`` and ``[N, K/32]``, in plain order (AITER wants them shuffled).
      bias: ``[N]``, float. AITER's host code passes one on, its hand-written kernels read none, so they refuse it.
      out_dtype: bfloat16, float16 or float32.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``[..., N]`` in `out_dtype`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.gemm_a4w4``.
    """
    return over_rows(
        GEMM_A4W4,
        A=A,
        B=B,
        A_scale=A_scale,
        B_scale=B_scale,
        bias=bias,
        out_dtype=check.static_dtype(OP, "out_dtype", out_dtype, product.OUT_TYPES),
        implementation=implementation,
        kernel=kernel,
    )
