"""How the MoE quantises activations: the hidden states going in, and the intermediate between its two GEMMs.

Scale = amax / largest value over the tensor, the row, or 128 columns of the row. fp8 rounds to nearest even. int8 **truncates**:
AITER's quantisation kernels cast with ``v_cvt_i32_f32`` (csrc/include/aiter_opus_plus.h, fp32_to_i8_scaled) and so do the one-stage
fMoE kernels for the intermediate; modelling rounding would leave a bias of half a step between the reference and every kernel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.ops.quant import numerics

GROUP = 128


class Quantized(NamedTuple):
    """Rows [R, K] and what they stand for: ``values * scale``.

    scale: None (not quantised), [1] (per tensor), [R, 1] (per token) or [R, K/128] (per group).
    """

    values: jax.Array
    scale: jax.Array | None

    def rows(self, index: jax.Array) -> "Quantized":
        scale = self.scale
        return Quantized(self.values[index], scale if scale is None or scale.ndim == 1 else scale[index])


def cast(x: jax.Array, dtype: np.dtype) -> jax.Array:
    """x, already divided by its scale, into fp8 (nearest even) or int8 (toward zero), saturating."""
    if jnp.dtype(dtype) != jnp.int8:
        return numerics.saturating_cast(x, dtype)
    top = numerics.dtype_max(dtype)
    return jnp.trunc(jnp.clip(x, -top, top)).astype(jnp.int8)


def amax_scale(x: jax.Array, dtype: np.dtype) -> jax.Array:
    """[1]: the per-tensor scale, 1 for a tensor of zeros."""
    return numerics.amax_scale(x, dtype, axis=None).reshape(1)


def quantize(x: jax.Array, quant_type: str, dtype: np.dtype, scale: jax.Array | None = None) -> Quantized:
    """float32 rows to `dtype`; `scale` is a static per-tensor scale, without it the scale comes from the rows themselves."""
    if quant_type == "none":
        return Quantized(x, None)
    if quant_type == "per_1x128":
        groups = x.reshape(x.shape[0], x.shape[1] // GROUP, GROUP)
        found = numerics.amax_scale(groups, dtype, axis=-1)
        return Quantized(cast(groups / found, dtype).reshape(x.shape), found[..., 0])
    if quant_type == "per_token":
        scale = numerics.amax_scale(x, dtype, axis=-1)
    elif scale is None:
        scale = amax_scale(x, dtype)
    return Quantized(cast(x / scale, dtype), scale)


def expand(x: Quantized) -> tuple[jax.Array, jax.Array | None]:
    """What enters the GEMM, and the scale that may be applied to its result instead.

    Scales per group vary along the contraction, so they are multiplied in; the others commute with it.
    """
    if x.scale is None:
        return x.values, None
    values = x.values.astype(jnp.float32)  # exact for fp8 and int8
    if x.scale.ndim == 2 and x.scale.shape[1] != 1:
        return values * jnp.repeat(x.scale, GROUP, axis=1), None
    if x.scale.ndim == 2 and values.shape[1] == GROUP:
        return values * x.scale, None
    return values, x.scale


def dequantize(x: Quantized) -> jax.Array:
    values, scale = expand(x)
    return values if scale is None else values * scale
