"""What products with MXFP4 matrices share: packed e2m1 elements, two to a byte, and an e8m0 scale per 32 of them."""

import jax
import jax.numpy as jnp

from jax_aiter.ops.quant import mx
from jax_aiter.ops.quant.mx_dequant import width

BYTES = ("uint8",)


def wide(x: jax.Array, scale: jax.Array) -> jax.Array:
    """The values as bfloat16, which holds each of them that float32 has a normal number for."""
    return mx.dequantize(x, scale).astype(jnp.bfloat16)


def check_columns(op: str, x: jax.ShapeDtypeStruct, w: jax.ShapeDtypeStruct, w_scales: jax.ShapeDtypeStruct) -> None:
    """ValueError unless the weight stands for as many columns as `x`, which is not packed, has."""
    columns = width(op, "w", w, "w_scales", w_scales.shape[-1])
    if x.shape[-1] != columns:
        last = x.ndim - 1
        raise ValueError(f"{op}: dimension {last} of x is {x.shape[-1]}, must be K = {columns}, two for each byte of a row of w")
