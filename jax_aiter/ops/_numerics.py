"""Arithmetic of quantised types, shared by the references: AITER's rule is scale = amax / largest value, then a saturating cast."""

import jax
import jax.numpy as jnp
import numpy as np


def dtype_max(dtype: np.dtype) -> float:
    """240 for e4m3fnuz, 448 for e4m3fn, 127 for int8."""
    dtype = jnp.dtype(dtype)
    return float(jnp.iinfo(dtype).max if dtype == jnp.int8 else jnp.finfo(dtype).max)


def saturating_cast(x: jax.Array, dtype: np.dtype) -> jax.Array:
    """Round to nearest even and clamp to the finite range; NaN stays NaN in fp8 (XLA's own conversion overflows to NaN)."""
    dtype = jnp.dtype(dtype)
    top = dtype_max(dtype)
    clipped = jnp.clip(x, -top, top)  # symmetric for int8 too: AITER never emits -128
    return jnp.round(clipped).astype(dtype) if dtype == jnp.int8 else clipped.astype(dtype)


def amax_scale(x: jax.Array, dtype: np.dtype, axis: int | tuple[int, ...] | None) -> jax.Array:
    """float32 dequantisation scale over `axis` (kept); 1.0 where everything is zero, as AITER defines it."""
    amax = jnp.max(jnp.abs(x.astype(jnp.float32)), axis=axis, keepdims=True)
    return jnp.where(amax == 0, 1.0, amax / dtype_max(dtype))


def quantize(x: jax.Array, scale: jax.Array, dtype: np.dtype) -> jax.Array:
    """x / scale, saturated into `dtype`."""
    return saturating_cast(x.astype(jnp.float32) / scale, dtype)
