"""Weights in 8 bits, as they are loaded: fp8 or int8 with a scale a row, or fp8 with one a block of 128 x 128."""

from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter
from examples.llm.linear import BLOCK, Blocks, Linear, Packed, PerToken, pad_last

#: How weights are held: as the checkpoint has them, in the dtype of the activations, or quantised.
SCHEMES = ("keep", "none", "fp8", "fp8_block", "int8")


def quantise(w: jax.Array, scheme: str) -> PerToken | Blocks:
    """Float ``[..., N, K]`` in one of the last three of `SCHEMES`."""
    if scheme == "fp8":
        return PerToken(*jax_aiter.per_token_quant(w))
    if scheme == "int8":
        return _int8(w)
    return _blocks(pad_last(w, _up(w.shape[-1])))


@jax.jit
def _int8(w: jax.Array) -> PerToken:
    """To the nearest: `per_token_quant` cuts off, as AITER's kernels do with activations, which makes every weight smaller."""
    w = w.astype(jnp.float32)
    scale = jnp.maximum(jnp.max(jnp.abs(w), axis=-1, keepdims=True), 1e-10) / 127
    return PerToken(jnp.round(w / scale).astype(jnp.int8), scale)


@jax.jit
def _blocks(w: jax.Array) -> Blocks:
    rows, dtype = w.shape[-2], jax_aiter.fp8_dtype()
    tall = jnp.pad(w.astype(jnp.float32), [(0, 0)] * (w.ndim - 2) + [(0, -rows % BLOCK), (0, 0)])
    tiles = tall.reshape(*w.shape[:-2], -1, BLOCK, w.shape[-1] // BLOCK, BLOCK)
    largest = float(jnp.finfo(dtype).max)
    scale = jnp.maximum(jnp.max(jnp.abs(tiles), axis=(-3, -1), keepdims=True), 1e-10) / largest
    values = jnp.clip(tiles / scale, -largest, largest).reshape(tall.shape)[..., :rows, :]
    return Blocks(values.astype(dtype), scale[..., 0, :, 0])


def dequantise(w: Any) -> jax.Array:
    """float32 ``[..., N, K]`` of any weight, with the columns that blocks added."""
    if isinstance(w, Packed):
        return jax_aiter.mx_dequant(w.values, w.scale, out_dtype=jnp.float32)
    if isinstance(w, PerToken):
        return w.values.astype(jnp.float32) * w.scale
    if isinstance(w, Blocks):
        rows, columns = w.values.shape[-2:]
        scale = jnp.repeat(jnp.repeat(w.scale, BLOCK, axis=-2)[..., :rows, :], BLOCK, axis=-1)[..., :columns]
        return w.values.astype(jnp.float32) * scale
    return jnp.asarray(w, jnp.float32)


def on_target(w: Blocks) -> Blocks:
    """In the e4m3 family that the target computes in."""
    return w if w.values.dtype == jax_aiter.fp8_dtype() else Blocks(*jax_aiter.convert_fp8(w.values, w.scale))


def experts(w1: Linear, w2: Linear, scheme: str) -> tuple[Linear, Linear]:
    """`quantise` for the weights of `fused_moe`. With blocks, gate and up each begin at one, and the widths are whole blocks."""
    if scheme != "fp8_block":
        return Linear(quantise(w1.weight, scheme), w1.bias), Linear(quantise(w2.weight, scheme), w2.bias)
    dim, width = w2.weight.shape[1:]

    def halves(x: jax.Array) -> jax.Array:  # [E, 2I, ...]
        gap = [(0, 0), (0, _up(width) - width)] + [(0, 0)] * (x.ndim - 2)
        return jnp.concatenate([jnp.pad(half, gap) for half in jnp.split(x, 2, axis=1)], axis=1)

    down = jnp.pad(w2.weight, ((0, 0), (0, _up(dim) - dim), (0, 0)))
    bias1, bias2 = (f(b) if b is not None else None for f, b in ((halves, w1.bias), (lambda b: pad_last(b, _up(dim)), w2.bias)))
    return Linear(quantise(halves(w1.weight), scheme), bias1), Linear(quantise(down, scheme), bias2)


def _up(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
