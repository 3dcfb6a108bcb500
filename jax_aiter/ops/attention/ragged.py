"""Sequences packed one after the other, described by cumulative lengths (``cu_seqlens``, ``indptr``)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.core import machine, symbolic
from jax_aiter.ops.shared.running_sum import running_sum
from jax_aiter.ops.shared.search import search


class Owner(NamedTuple):
    """Per packed token: its sequence (clipped into range), its offset in it, whether any sequence owns it."""

    sequence: jax.Array
    offset: jax.Array
    owned: jax.Array


def owners(cu_seqlens: jax.Array, tokens: int, method: str = "scan") -> Owner:
    """Tokens outside [cu[0], cu[-1]) belong to no sequence. method: of `search`."""
    token = jnp.arange(tokens, dtype=jnp.int32)
    sequence = search(cu_seqlens[1:], token, side="right", method=method)
    last = cu_seqlens.shape[0] - 2
    owned = (sequence <= last) & (token >= cu_seqlens[0])
    sequence = jnp.minimum(sequence, last)
    return Owner(sequence, token - cu_seqlens[sequence], owned)


def some_sequence(offsets: jax.Array, *per_sequence: jax.Array) -> tuple[jax.Array, ...]:
    """No sequences as one without tokens, so that what follows may index them; else the arguments."""
    if offsets.shape[0] != 1:
        return offsets, *per_sequence
    return jnp.repeat(offsets, 2), *(jnp.zeros((1, *x.shape[1:]), x.dtype) for x in per_sequence)


class Tiles(NamedTuple):
    """Query tokens cut into tiles of `rows`, each of one sequence: token [N, rows], its offset in its sequence, owned."""

    sequence: jax.Array
    token: jax.Array
    offset: jax.Array
    owned: jax.Array


def tile_rows(tokens: int, sequences: int) -> int:
    """Rows per tile: about the mean length, so that pure decoding gets 1 and a long prefill reads each key once per 64 queries."""
    if symbolic.any_symbolic_size(tokens, sequences):
        return 16
    rows, most = 1, 256 if machine.is_gpu() else 64  # a GPU gathers the keys of each tile
    while rows < most and rows * sequences < tokens:
        rows *= 2
    return rows


def tiles(cu_seqlens: jax.Array, tokens: int, rows: int) -> tuple[Tiles, jax.Array]:
    """The tiles, as many as the tokens can need, and, per token, its place ``tile * rows + row``."""
    sequences = cu_seqlens.shape[0] - 1
    most = (tokens + sequences * (rows - 1)) // rows  # each sequence's last tile lacks rows - 1 queries at most
    most = most + 1 if symbolic.is_symbolic(most) else max(most, 1)  # never none, as results are taken out of them
    lengths = jnp.maximum(cu_seqlens[1:] - cu_seqlens[:-1], 0)
    ends = running_sum((lengths + rows - 1) // rows).astype(jnp.int32)
    starts = jnp.concatenate([jnp.zeros(1, jnp.int32), ends[:-1]])
    tile = jnp.arange(most, dtype=jnp.int32)
    sequence = jnp.minimum(search(ends, tile, side="right"), sequences - 1)
    index = ((tile - starts[sequence]) * rows)[:, None] + jnp.arange(rows, dtype=jnp.int32)
    owned = (tile < ends[-1])[:, None] & (index < lengths[sequence][:, None])
    token = jnp.where(owned, cu_seqlens[sequence][:, None] + index, 0)
    owner = owners(cu_seqlens, tokens)
    place = starts[owner.sequence] * rows + owner.offset
    return Tiles(sequence, token, index, owned), jnp.where(owner.owned, place, tile.shape[0] * rows)


def fold_offsets(offsets: jax.Array, totals: int, dummies: tuple[int, ...]) -> jax.Array:
    """[batch, B + 1] cumulative lengths as one list of batch x (B + len(dummies)) sequences.

    `dummies` are the ends, relative to the batch element and at most `totals`, of sequences put after the B real ones; -1 stands
    for the element's own last offset. They keep padding tokens of one element out of the next element's sequences.
    """
    batch = offsets.shape[0]
    last = offsets[:, -1:]
    ends = [last if d < 0 else jnp.full_like(last, d) for d in dummies]
    local = jnp.concatenate([offsets, *ends], axis=1)
    shifted = local + totals * jnp.arange(batch, dtype=offsets.dtype)[:, None]
    return jnp.concatenate([shifted[:, :-1].reshape(-1), jnp.full(1, batch * totals, offsets.dtype)])


def offset_checks(name: str, offsets: jax.Array, total: int) -> dict[str, jax.Array]:
    """What `debug_checks` says about cumulative lengths."""
    return {**order_checks(name, offsets), f"{name} must not exceed the {total} packed tokens": offsets > total}


def order_checks(name: str, offsets: jax.Array) -> dict[str, jax.Array]:
    """The part of them that does not need the number of packed tokens."""
    return {f"{name}[0] must be 0": offsets[:1] != 0, f"{name} must not decrease": offsets[1:] < offsets[:-1]}
