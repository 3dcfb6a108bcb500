"""Moving ragged rows between the devices of an axis: by `lax.ragged_all_to_all`, or padded where a backend lacks that."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind import sharding
from jax_aiter.parallel.plan import Side

#: Platforms whose XLA compiles ragged-all-to-all; XLA's CPU backend refuses it (jaxlib 0.9.1 to 0.12).
RAGGED = ("cuda", "rocm", "tpu")


@dataclasses.dataclass(frozen=True)
class Wire:
    """How rows move, all of it static.

    axis, devices: the mesh axes, and how many devices they span.
    how: "ragged_all_to_all", "all_to_all" (padded), or "exchange": the first where the platform has it, else the second.
    between: how many rows any device may send to any other; what padding fills up to.
    sends, room: rows of the arrays at the two ends, that of the tokens and that of the experts.
    coded: the fp8 dtype that hidden states travel in, None if they go as they are.
    """

    axis: tuple[str, ...]
    devices: int
    how: str
    between: int
    sends: int
    room: int
    coded: Any = None


def move(rows: jax.Array, size: int, give: Side, take: Side, wire: Wire) -> jax.Array:
    """[size, ...]: what the other devices' `rows` [_, ...] hold for this one, at `take`; zeros elsewhere."""
    if not rows.size or not size:
        return sharding.same_varying_axes([rows, give.sizes, jnp.zeros((size, *rows.shape[1:]), rows.dtype)])[-1]
    rows, *sides = sharding.same_varying_axes([rows, *give, *take])
    give, take = Side(*sides[:3]), Side(*sides[3:])

    def ragged(rows, give: Side, take: Side):
        empty = sharding.same_varying_axes([rows, jnp.zeros((size, *rows.shape[1:]), rows.dtype)])[1]
        return jax.lax.ragged_all_to_all(rows, empty, give.offsets, give.sizes, give.there, take.sizes, axis_name=wire.axis)

    def padded(rows, give: Side, take: Side):
        place = jnp.arange(wire.between, dtype=jnp.int32)
        index = jnp.clip(give.offsets[:, None] + place, 0, rows.shape[0] - 1)
        got = jax.lax.all_to_all(rows[index], wire.axis, 0, 0, tiled=True)
        got = got.reshape(wire.devices * wire.between, *rows.shape[1:])
        at = jnp.arange(size, dtype=jnp.int32)
        # Of peers that begin at the same row, the last: the one that has any.
        peer = jnp.sum(take.offsets <= at[:, None], axis=1, dtype=jnp.int32) - 1
        place = at - take.offsets[peer]
        valid = (place < take.sizes[peer]).reshape(-1, *[1] * (rows.ndim - 1))
        found = got[jnp.minimum(peer * wire.between + place, got.shape[0] - 1)]
        return jnp.where(valid, found, jnp.zeros((), rows.dtype))

    if wire.how == "exchange":
        return jax.lax.platform_dependent(rows, give, take, **dict.fromkeys(RAGGED, ragged), default=padded)
    return (ragged if wire.how == "ragged_all_to_all" else padded)(rows, give, take)


def move_all(values: Sequence[jax.Array], size: int, give: Side, take: Side, wire: Wire) -> list[jax.Array]:
    """`move` of several arrays [_, c], those of four bytes an element in one message."""
    words = [x for x in values if x.dtype.itemsize == 4]
    if len(words) < 2:
        return [move(x, size, give, take, wire) for x in values]
    packed = [jax.lax.bitcast_convert_type(x, jnp.int32) for x in words]
    moved = move(jnp.concatenate(sharding.same_varying_axes(packed), axis=1), size, give, take, wire)
    ends = [sum(x.shape[1] for x in words[: i + 1]) for i in range(len(words))]
    parts = iter(jnp.split(moved, ends[:-1], axis=1))
    return [
        jax.lax.bitcast_convert_type(next(parts), x.dtype) if x.dtype.itemsize == 4 else move(x, size, give, take, wire)
        for x in values
    ]
