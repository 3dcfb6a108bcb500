"""``x · wᵀ + b`` for a weight as it is, or in 8 bits with a scale for each row or for each block of 128 x 128."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jax_aiter

BLOCK = 128


class PerToken(NamedTuple):
    """``values * scale``: fp8 or int8 ``[..., N, K]`` and float32 ``[..., N, 1]``."""

    values: jax.Array
    scale: jax.Array


class Blocks(NamedTuple):
    """``values`` times the scale of its block: fp8 ``[..., N, K]``, K a multiple of 128, and float32 ``[..., ceil(N/128), K/128]``.

    K may be more than the model's: the columns that were added are zeros.
    """

    values: jax.Array
    scale: jax.Array


class Linear(NamedTuple):
    """weight: an array ``[N, K]`` (experts: ``[E, N, K]``), `PerToken` or `Blocks`; bias: ``[N]``, ``[E, N]`` or None."""

    weight: Any
    bias: jax.Array | None = None


def pad_last(x: jax.Array, size: int) -> jax.Array:
    """x with zeros after its last axis, up to `size`."""
    return x if x.shape[-1] == size else jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


def linear(x: jax.Array, p: Linear, out_dtype: Any = None) -> jax.Array:
    """``[..., K]`` to ``[..., N]``; what an 8-bit weight is multiplied with is quantised as that is, here."""
    w, out_dtype = p.weight, x.dtype if out_dtype is None else out_dtype
    if isinstance(w, PerToken):
        values, scale = jax_aiter.per_token_quant(x, quant_dtype=w.values.dtype)
        return jax_aiter.gemm_a8w8(values, w.values, scale, w.scale, bias=p.bias, out_dtype=out_dtype)
    if isinstance(w, Blocks):
        values, scale = jax_aiter.group_quant(pad_last(x, w.values.shape[-1]), quant_dtype=w.values.dtype, group_size=BLOCK)
        if p.bias is None:
            return jax_aiter.gemm_a8w8_blockscale(values, w.values, scale, w.scale, out_dtype=out_dtype)
        y = jax_aiter.gemm_a8w8_blockscale(values, w.values, scale, w.scale, out_dtype=jnp.float32)
        return (y + p.bias).astype(out_dtype)
    return jax_aiter.gemm_a16w16(x, w, bias=p.bias, out_dtype=out_dtype)
