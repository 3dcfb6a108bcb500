"""``x · wᵀ + b`` for a weight as it is, or in 8 bits with a scale for each row or for each block of 128 x 128."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jax_aiter
from examples.llm.straight_through import straight_through

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


class Packed(NamedTuple):
    """MXFP4, of experts: uint8 ``[..., N, K/2]``, two e2m1 codes to a byte, and e8m0 scales uint8 ``[..., N, K/32]``."""

    values: jax.Array
    scale: jax.Array


class Rounded(NamedTuple):
    """A float weight that is multiplied as fp8 with a scale per row, and trained as if it were not: gradients pass the rounding."""

    weight: jax.Array


class Linear(NamedTuple):
    """weight: an array ``[N, K]`` (experts: ``[E, N, K]``), or one of the above; bias: ``[N]``, ``[E, N]`` or None."""

    weight: Any
    bias: jax.Array | None = None


def pad_last(x: jax.Array, size: int) -> jax.Array:
    """x with zeros after its last axis, up to `size`."""
    return x if x.shape[-1] == size else jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


def linear(x: jax.Array, p: Linear, out_dtype: Any = None, axis: tuple[str, ...] = ()) -> jax.Array:
    """``[..., K]`` to ``[..., N]``; what an 8-bit weight is multiplied with is quantised as that is, here.

    axis: of the mesh, over which K is split; the parts are summed in float32.
    """
    w, out_dtype = p.weight, x.dtype if out_dtype is None else out_dtype
    if axis:
        y = jax.lax.psum(linear(x, p._replace(bias=None), jnp.float32), axis)
        return (y if p.bias is None else y + p.bias).astype(out_dtype)
    if isinstance(w, Rounded):

        def run(of: Callable[[jax.Array], Any], x: jax.Array, w: jax.Array, bias: jax.Array | None) -> jax.Array:
            return linear(x, Linear(of(w), bias), out_dtype)

        return straight_through(functools.partial(run, round_to_fp8), functools.partial(run, lambda w: w), x, w.weight, p.bias)
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


def round_to_fp8(w: jax.Array) -> PerToken:
    """Float ``[..., N, K]`` in fp8 with a scale a row."""
    return PerToken(*jax_aiter.per_token_quant(w))
