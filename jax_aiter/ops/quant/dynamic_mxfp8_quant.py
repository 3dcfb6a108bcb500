"""Quantisation to MXFP8: e4m3 elements, an e8m0 scale per 32 of them."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FP8_TYPES, Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.record import Struct
from jax_aiter.ops.quant import mx, numerics

OP = "dynamic_mxfp8_quant"


def _abstract(dims, *, x, quant_dtype, scaling_mode):
    check.multiple(OP, f"dimension {len(x.shape) - 1} of x (D)", dims["D"], mx.BLOCK, "the values of a block")
    return Struct(x.shape, quant_dtype), Struct((*x.shape[:-1], dims["D"] // mx.BLOCK), jnp.uint8)


def _reference(*, x, quant_dtype, scaling_mode):
    return mx.quantize_fp8(x, quant_dtype, scaling_mode)


DYNAMIC_MXFP8_QUANT = Op(
    name=OP,
    family="QUANT",
    mirrors="aiter.ops.triton.quant.quant.dynamic_mxfp8_quant",
    operands={"x": Arg("... D")},
    results={"y": "... D", "scale": "... G"},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    cases=lambda: [
        case(
            "ocp",
            x=normal(3, 96, dtype=jnp.bfloat16),
            quant_dtype=jnp.dtype("float8_e4m3fn"),
            scaling_mode="even",
        ),
        case("fnuz", x=normal(2, 2, 32, std=9.0), quant_dtype=jnp.dtype("float8_e4m3fnuz"), scaling_mode="rceil"),
    ],
)


@public
def dynamic_mxfp8_quant(
    x: jax.Array, *, quant_dtype: Any = "fp8", scaling_mode: str = "even", implementation: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """Each 32 consecutive columns as e4m3 elements times a power of two.

    Args:
      x: ``[..., D]`` float32, bfloat16 or float16; D a multiple of 32.
      quant_dtype: ``"fp8"`` (the target's e4m3 variant), ``float8_e4m3fn``, which is what the specification calls MXFP8, or
        ``float8_e4m3fnuz``, what gfx942 computes in.
      scaling_mode: static, as of `dynamic_mxfp4_quant`, with 256 (fnuz: 128) and 448 (240) for 4 and 6.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``y``, the shape of `x`, rounded to nearest even and saturated; ``scale`` uint8 ``[..., D/32]``: b stands for 2^(b - 127). A
      block of zeros, or of float32 subnormals, has scale 0. One with an infinity or a NaN has scale 255, which is NaN, and NaN.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.triton.quant.quant.dynamic_mxfp8_quant``.
    """
    dtype = numerics.quant_dtype(OP, quant_dtype)
    check.choice(OP, "quant_dtype", dtype.name, FP8_TYPES)
    check.choice(OP, "scaling_mode", scaling_mode, mx.SCALING_MODES)
    y, scale = DYNAMIC_MXFP8_QUANT(x=x, quant_dtype=dtype, scaling_mode=scaling_mode, implementation=implementation)
    return y, scale
