"""Causal convolutions over a few tokens, each channel by itself, and the tokens of the past that they keep: `conv_states`.

A state holds the last ``width - 1`` inputs of a sequence, the oldest first, in the first rows of its line; later rows, which a line
may have, are of speculative decoding. Channels lie last everywhere: AITER's tensors are views with the channels first of memory in
this order.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.batching import Batched
from jax_aiter.core import check

ACTIVATIONS = ("silu", "none")


def activation_of(op: str, value: Any) -> str:
    """AITER's spellings: None, True or False, ``"silu"`` or ``"swish"``."""
    if isinstance(value, (bool, np.bool_)):
        return "silu" if value else "none"
    if value is None:
        return "none"
    check.choice(op, "activation", value, ("silu", "swish", "none"))
    return "silu" if value == "swish" else value


def check_window(op: str, dims: Mapping[str, int], operands: Mapping[str, jax.ShapeDtypeStruct], states: str) -> None:
    """Types, and whether a line of the states holds what a convolution looks back at."""
    check.same_dtype(op, x=operands["x"].dtype, **{states: operands[states].dtype})
    if dims["width"] < 1:
        raise ValueError(f"{op}: dimension 1 of weight is {dims['width']}, must be at least 1")
    if dims["state_len"] < dims["width"] - 1:
        rule = f"must be at least width - 1 = {dims['width'] - 1} (dimension 1 of weight)"
        raise ValueError(f"{op}: dimension 1 of {states} is {dims['state_len']}, {rule}")


def convolve(tokens: jax.Array, weight: jax.Array, bias: jax.Array | None, activation: str) -> jax.Array:
    """``[..., width - 1 + L, dim]`` -> float32 ``[..., L, dim]``: token i of the result ends at token ``width - 1 + i``."""
    width = weight.shape[1]
    length = tokens.shape[-2] - (width - 1)
    total = jnp.zeros((), jnp.float32) if bias is None else bias.astype(jnp.float32)
    for tap in range(width):  # a handful: four in every model
        part = jax.lax.slice_in_dim(tokens, tap, tap + length, axis=tokens.ndim - 2)
        total = total + part.astype(jnp.float32) * weight[:, tap].astype(jnp.float32)
    return jax.nn.silu(total) if activation == "silu" else total


def index_of(op: str, name: str, index: jax.Array | None, sequences: int, lines: int, pad_slot_id: int) -> jax.Array:
    """The line of each sequence; -1 for one that is to be skipped."""
    if index is None:
        if sequences > lines:
            raise ValueError(f"{op}: {name} is None, which takes {sequences} lines for as many sequences, but there are {lines}")
        return jnp.arange(sequences, dtype=jnp.int32)
    if index.dtype != jnp.int32:
        raise TypeError(f"{op}: {name} has dtype {index.dtype}, must be int32")
    return jnp.where((index < 0) | (index >= lines) | (index == pad_slot_id), -1, index)


def fold_channels(batched: Batched, channels: Mapping[str, int], results: tuple[int, ...]):
    """vmap as more channels, where all that is batched has them; `channels`: the axis of each operand, `results`: of results."""
    if not batched.names <= set(channels):
        return NotImplemented
    values = dict(batched.values)
    for name in channels:
        if batched.get(name) is not None:
            full = jnp.moveaxis(batched.broadcast(name), 0, channels[name])
            axis = channels[name]
            values[name] = full.reshape(*full.shape[:axis], batched.size * full.shape[axis + 1], *full.shape[axis + 2 :])
    out = []
    for x, axis in zip(batched.bind(**values), results, strict=True):
        split = x.reshape(*x.shape[:axis], batched.size, x.shape[axis] // batched.size, *x.shape[axis + 1 :])
        out.append(jnp.moveaxis(split, axis, 0))
    return out
