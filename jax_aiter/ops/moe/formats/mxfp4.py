"""MXFP4 weights as gpt-oss and MI350X checkpoints keep them: two e2m1 codes to a byte, an e8m0 scale per 32 columns of a row."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core.axes import FP8_TYPES
from jax_aiter.ops.moe.formats import int4, mxfp8
from jax_aiter.ops.quant import mx

#: what rows may be quantised to: MXFP4, two codes to a byte, and MXFP8
ROWS = ("uint8", *FP8_TYPES)
AXES = {**int4.AXES, **mxfp8.AXES}


def dequantised(codes: jax.Array, scale: jax.Array, dtype: Any) -> jax.Array:
    """``[N, K]`` of `dtype` from ``[N, K/2]``, or ``[N, K]`` of fp8, and ``[N, K/32]``; bfloat16 holds every value."""
    return mx.dequantize(codes, scale).astype(dtype)


def rounded(x: jax.Array, q_dtype: np.dtype, dtype: Any = None) -> jax.Array:
    """Rows ``[R, K]`` after a trip through MXFP4 or MXFP8, in `dtype` or their own.

    bfloat16 and float32 hold what either stands for; float16 has not the exponents, so its rows are float32 from there on.
    """
    dtype = jnp.dtype(x.dtype if dtype is None else dtype)
    wide = x.astype(jnp.float32)
    if jnp.dtype(q_dtype) == jnp.uint8:
        values = mx.dequantize(*mx.quantize(wide, "even"))
    else:
        values = mx.dequantize(*mx.quantize_fp8(wide, q_dtype, "even"))
    return values.astype(jnp.float32 if dtype == jnp.float16 else dtype)


def validate(op: str, operands: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Everything about MXFP4 weights that the axes do not say."""
    int4.validate_packed(op, operands, params)
    for name in ("w1", "w2"):
        w = operands[name]
        if operands[f"{name}_zp"] is not None:
            raise ValueError(f"{op}: {name}_zp is given, quant_type {int4.MX!r} has no zero points")
        columns = w.shape[2] * 2
        says = f"the {columns} columns of {name}, two to a byte: their number"
        mxfp8.validate_scale(op, name, operands[f"{name}_scale"], (*w.shape[:2], columns), says)
