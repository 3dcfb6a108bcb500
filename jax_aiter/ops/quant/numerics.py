"""Arithmetic of quantised types, shared by the references: AITER's rule is scale = amax / largest value, then a saturating cast."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import check
from jax_aiter.core.arch import fp8_dtype
from jax_aiter.core.axes import FP8_TYPES

QUANTIZED = (*FP8_TYPES, "int8")

# The least maximum a dynamic scale is made from. Far smaller ones would give subnormal scales, which CPUs and GPUs flush to zero.
AMAX_FLOOR = np.float32(1e-10)


def quant_dtype(op: str, value: Any) -> np.dtype:
    """``"fp8"`` is the target's e4m3 variant; else one of the two e4m3 dtypes or int8."""
    return fp8_dtype() if isinstance(value, str) and value == "fp8" else check.static_dtype(op, "quant_dtype", value, QUANTIZED)


def fp8(op: str, value: Any) -> np.dtype:
    """`quant_dtype` of ops that write fp8 only."""
    return fp8_dtype() if isinstance(value, str) and value == "fp8" else check.static_dtype(op, "quant_dtype", value, FP8_TYPES)


def dtype_max(dtype: np.dtype) -> float:
    """240 for e4m3fnuz, 448 for e4m3fn, 127 for int8."""
    dtype = jnp.dtype(dtype)
    return float(jnp.iinfo(dtype).max if dtype == jnp.int8 else jnp.finfo(dtype).max)


def saturating_cast(x: jax.Array, dtype: np.dtype, *, truncate_int8: bool = False) -> jax.Array:
    """Round to nearest even and clamp to the finite range; NaN stays NaN in fp8 (XLA's own conversion overflows to NaN).

    truncate_int8: round int8 toward zero, as AITER's quantisation kernels do (csrc/include/aiter_opus_plus.h, fp32_to_i8_scaled).
    """
    dtype = jnp.dtype(dtype)
    top = dtype_max(dtype)
    clipped = jnp.clip(x, -top, top)  # symmetric for int8 too: AITER never emits -128
    if dtype == jnp.float8_e4m3fnuz:
        # What rounds to zero is +0 before it is converted: in loops XLA's CPU backend of jaxlib 0.12 makes -0 of a small negative
        # number, whose code is this type's NaN.
        clipped = jnp.where(jnp.abs(clipped) <= float(jnp.finfo(dtype).smallest_subnormal) / 2, 0, clipped)
    if dtype != jnp.int8:
        return clipped.astype(dtype)
    return (jnp.trunc(clipped) if truncate_int8 else jnp.round(clipped)).astype(dtype)


def amax_scale(x: jax.Array, dtype: np.dtype, axis: int | tuple[int, ...] | None) -> jax.Array:
    """float32 dequantisation scale over `axis` (kept). NaN gives a NaN scale.

    The maximum counts as at least `AMAX_FLOOR`, as in AITER's group kernels (csrc/kernels/quant_kernels.cu and
    _triton_kernels/quant/fused_fp8_quant.py): zeros, or nothing at all, get a normal, positive scale, and one rule holds for all
    three ops.
    """
    # Times the reciprocal, as AITER's kernels do; XLA would make this of a division by a constant anyway, but not always.
    amax = jnp.maximum(jnp.max(jnp.abs(x.astype(jnp.float32)), axis=axis, keepdims=True, initial=0.0), AMAX_FLOOR)
    return amax * np.float32(1 / dtype_max(dtype))


def quantize_stored(x: jax.Array, scale: jax.Array | None, dtype: np.dtype) -> jax.Array:
    """What a cache of one byte stores of x: `quantize` by a scale float32 ``[1]``; None is 1."""
    return quantize(x, jnp.float32(1.0) if scale is None else scale[0], dtype)


def quantize(x: jax.Array, scale: jax.Array, dtype: np.dtype, *, truncate_int8: bool = False) -> jax.Array:
    """x / scale, saturated into `dtype`; by the reciprocal, as AITER's kernels (and XLA's simplifier, at times) do it."""
    return saturating_cast(x.astype(jnp.float32) * (1 / scale), dtype, truncate_int8=truncate_int8)
