"""Arithmetic of the OCP microscaling (MX) formats: blocks of 32 values that share a power of two.

An element is e2m1 (fp4, two to a byte, the earlier one in the low four bits) or e4m3 (fp8); a scale is e8m0, a byte b that stands
for 2^(b - 127), 255 for NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.ops.quant import numerics

BLOCK = 32
#: The codes of e2m1 in order; the sign is bit 3.
FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
#: Exponent of the largest power of two that an element type holds, and its largest value.
LARGEST = {"uint8": (2, 6.0), "float8_e4m3fn": (8, 448.0), "float8_e4m3fnuz": (7, 240.0)}
#: How a block's largest magnitude becomes its scale: to AITER's rounding modes Even, RoundDown, Ceil and RoundUp.
SCALING_MODES = ("even", "floor", "ceil", "rceil")
NAN = 255


def block_scale(x: jax.Array, element: str, mode: str) -> jax.Array:
    """uint8 scale of each block ``[..., 32]``; NaN where a value is infinite or NaN."""
    exponent, largest = LARGEST[element]
    amax = jnp.max(jnp.abs(x.astype(jnp.float32)), axis=-1, initial=0.0)
    if mode == "rceil":
        amax, exponent = amax / np.float32(largest), 0
    bits = jax.lax.bitcast_convert_type(amax, jnp.int32)
    if mode == "even":
        bits = bits + 0x200000  # a quarter: from 1.75 times a power of two on, the next one
    elif mode in ("ceil", "rceil"):
        bits = bits + 0x7FFFFF
    # Subnormal and smaller maxima get the least scale, as in AITER's kernels.
    code = jnp.maximum((bits >> 23) - exponent, 0)
    return jnp.where(jnp.isfinite(amax), code, NAN).astype(jnp.uint8)


def power(scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two float32 factors whose product is the scale: either is a normal number, which 2^-127 is not."""
    exponent = scale.astype(jnp.int32) - 127
    half = exponent >> 1
    low, high = (jax.lax.bitcast_convert_type((e + 127) << 23, jnp.float32) for e in (half, exponent - half))
    return jnp.where(scale == NAN, jnp.nan, low), high


def inverse(scale: jax.Array) -> jax.Array:
    """float32 reciprocal of a scale that is no NaN and below 2^127, as those of blocks are."""
    return jax.lax.bitcast_convert_type((254 - scale.astype(jnp.int32)) << 23, jnp.float32)


def blocks(x: jax.Array) -> jax.Array:
    """``[..., D]`` as ``[..., D/32, 32]``."""
    return x.reshape(*x.shape[:-1], x.shape[-1] // BLOCK, BLOCK)


def scaled(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Values over their block's scale, ``[..., G, 32]`` float32; NaN in blocks whose scale is."""
    scale = scale[..., None]
    return jnp.where(scale == NAN, jnp.nan, x.astype(jnp.float32) * inverse(jnp.minimum(scale, NAN - 1)))


def fp4_codes(x: jax.Array) -> jax.Array:
    """uint8 codes of e2m1, rounded to nearest even and saturated; of what rounds to zero too the sign is kept. 0 of NaN."""
    magnitude = jnp.abs(x)
    # Halfway between two values the even code wins.
    above = (magnitude > 0.25, magnitude >= 0.75, magnitude > 1.25, magnitude >= 1.75)
    above += (magnitude > 2.5, magnitude >= 3.5, magnitude > 5.0)
    code = sum((a.astype(jnp.uint8) for a in above), jnp.uint8(0))
    return code | ((jnp.signbit(x) & ~jnp.isnan(x)).astype(jnp.uint8) << 3)


def pack(codes: jax.Array) -> jax.Array:
    """Codes of four bits, two to a byte along the last axis, the earlier one in the low bits."""
    pairs = codes.reshape(*codes.shape[:-1], codes.shape[-1] // 2, 2)
    return pairs[..., 0] | (pairs[..., 1] << 4)


def fp4_values(packed: jax.Array, dtype: np.dtype | type = jnp.float32) -> jax.Array:
    """``[..., 2 C]`` values of ``[..., C]`` bytes; every one is exact in any float type."""
    codes = jnp.stack([packed & 0xF, packed >> 4], axis=-1).reshape(*packed.shape[:-1], packed.shape[-1] * 2)
    # 0.5, 1, 1.5 and 2, 3, 4, 6 without a table: a gather per weight would cost a GPU more than these few operations.
    low, exponent = (codes & 1).astype(jnp.int32), ((codes >> 1) & 3).astype(jnp.int32)
    normal = ((126 + exponent) << 23) | (low << 22)
    half = jnp.where(low == 1, np.float32(0.5).view(np.int32), 0)
    bits = jnp.where(exponent == 0, half, normal) | ((codes >> 3).astype(jnp.int32) << 31)
    return jax.lax.bitcast_convert_type(bits, jnp.float32).astype(dtype)


def quantize(x: jax.Array, mode: str) -> tuple[jax.Array, jax.Array]:
    """Packed fp4 and scales of ``[..., D]``."""
    grouped = blocks(x)
    scale = block_scale(grouped, "uint8", mode)
    return pack(fp4_codes(scaled(grouped, scale)).reshape(x.shape)), scale


def quantize_fp8(x: jax.Array, dtype: np.dtype, mode: str) -> tuple[jax.Array, jax.Array]:
    """fp8 elements and scales of ``[..., D]``."""
    grouped = blocks(x)
    scale = block_scale(grouped, jnp.dtype(dtype).name, mode)
    return numerics.saturating_cast(scaled(grouped, scale), dtype).reshape(x.shape), scale


def dequantize(x: jax.Array, scale: jax.Array) -> jax.Array:
    """float32 ``[..., D]`` of packed fp4 or fp8 elements and their scales ``[..., D/32]``."""
    values = fp4_values(x) if x.dtype == jnp.uint8 else x.astype(jnp.float32)
    low, high = power(scale)
    return (blocks(values) * low[..., None] * high[..., None]).reshape(values.shape)
