"""Integers of four bits, two to a byte."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.text import shown

OP = "pack_int4"
ZERO = 8
SIGNED = ("int4", "int8")
UNSIGNED = ("uint4", "uint8")


@public
def pack_int4(values: jax.Array, *, axis: int = -1) -> jax.Array:
    """Pack integers of four bits as `fused_moe` of quant_type ``"int4_w4a16"`` reads them: along -1 weights, along -2 zero points.

    Args:
      values: of any shape with an even number of entries along `axis`. int4, or int8 of -8 to 7 (in which AITER keeps such
        weights): signed, each packed as its value plus 8. uint4, or uint8 of 0 to 15: codes as they are. Of what does not fit, the
        low four bits count. GPTQ and AWQ checkpoints keep eight codes to an int32, in orders of their own.
      axis: static.

    Returns:
      uint8, half as long along `axis`: entry 2i in the low four bits of entry i, entry 2i + 1 in the high ones.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.
    """
    kind = values.dtype.name
    if kind not in (*SIGNED, *UNSIGNED):
        raise TypeError(f"{OP}: values has dtype {kind}, must be {' or '.join((*SIGNED, *UNSIGNED))}")
    at = check.integer(OP, "axis", axis, -values.ndim, values.ndim - 1) if values.ndim else _no_axis(axis)
    check.multiple(OP, f"dimension {at} of values", values.shape[at], 2, "two to a byte")
    codes = values.astype(jnp.int8) + ZERO if kind in SIGNED else values
    codes = codes.astype(jnp.uint8) & 0xF
    low, high = (jax.lax.slice_in_dim(codes, start, None, 2, at % codes.ndim) for start in (0, 1))
    return low | (high << 4)


def unpacked(codes: jax.Array, axis: int = -1) -> jax.Array:
    """uint8 of 0 to 15, twice as long along `axis`: the inverse of packing codes."""
    axis %= codes.ndim
    pairs = jnp.stack([codes & 0xF, codes >> 4], axis=axis + 1)
    return pairs.reshape(*codes.shape[:axis], codes.shape[axis] * 2, *codes.shape[axis + 1 :])


def _no_axis(axis: Any) -> int:
    raise ValueError(f"{OP}: values has no dimensions, axis must be one of them, got {shown(axis)}")
