"""The values that MXFP4 or MXFP8 elements and their scales stand for."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING, FP8_TYPES, Arg
from jax_aiter.core.cases import case, integers, normal
from jax_aiter.core.record import Struct
from jax_aiter.ops.quant import mx

OP = "mx_dequant"


def width(op: str, name: str, x: jax.ShapeDtypeStruct, scale_name: str, groups: int) -> int:
    """The columns that `x`, elements, and `groups` scales per row both stand for; ValueError where they differ."""
    columns = x.shape[-1] * (2 if x.dtype == jnp.uint8 else 1)
    if columns != groups * mx.BLOCK:
        raise ValueError(
            f"{op}: {scale_name} has {groups} columns, must be one per {mx.BLOCK} of the {columns} that {name} stands for"
        )
    return columns


def _abstract(dims, *, x, scale, out_dtype):
    return (Struct((*x.shape[:-1], width(OP, "x", x, "scale", dims["G"])), out_dtype),)


def _reference(*, x, scale, out_dtype):
    return (mx.dequantize(x, scale).astype(out_dtype),)


MX_DEQUANT = Op(
    name=OP,
    family="QUANT",
    mirrors="aiter.utility.fp4_utils mxfp4_to_f32, e8m0_to_f32",
    operands={"x": Arg("... C", ("uint8", *FP8_TYPES)), "scale": Arg("... G", ("uint8",))},
    results={"y": "... D"},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    cases=lambda: [
        case(
            "fp4",
            x=integers(3, 48, low=0, high=256, dtype=jnp.uint8),
            scale=integers(3, 3, low=110, high=140, dtype=jnp.uint8),
            out_dtype=jnp.dtype("bfloat16"),
        ),
        case(
            "fp8",
            x=normal(2, 2, 32, dtype=jnp.float8_e4m3fn),
            scale=integers(2, 2, 1, low=120, high=135, dtype=jnp.uint8),
            out_dtype=jnp.dtype("float32"),
        ),
    ],
)


@public
def mx_dequant(x: jax.Array, scale: jax.Array, *, out_dtype: Any = jnp.bfloat16, implementation: str | None = None) -> jax.Array:
    """``y = x * 2^(scale - 127)``, a scale per 32 columns.

    Args:
      x: uint8 ``[..., D/2]``, two e2m1 elements to a byte, the earlier one in the low four bits; or fp8 ``[..., D]``.
      scale: uint8 ``[..., D/32]``, e8m0; 255 is NaN.
      out_dtype: bfloat16, float16 or float32. Rounded once; float32 subnormals may become zero.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., D]`` in `out_dtype`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``mxfp4_to_f32`` and ``e8m0_to_f32`` of ``aiter.utility.fp4_utils``.
    """
    out_dtype = check.static_dtype(OP, "out_dtype", out_dtype, FLOATING)
    return MX_DEQUANT(x=x, scale=scale, out_dtype=out_dtype, implementation=implementation)[0]
