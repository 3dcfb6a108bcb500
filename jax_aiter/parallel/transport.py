"""Moving ragged rows between the devices of an axis: by `lax.ragged_all_to_all`, or padded where a backend lacks that."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind import sharding
from jax_aiter.parallel.plan import Side

#: Platforms whose XLA compiles ragged-all-to-all; XLA's CPU backend refuses it (jaxlib 0.9.1 to 0.12).
RAGGED = ("cuda", "rocm", "tpu")

#: Blocks that copy at once on a GPU. XLA's kernel gives one block of 128 threads to each slice that it is told of: with one slice
#: for each peer it copied 9 GB/s between two H200.
BLOCKS = 512


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

    def sliced(rows, give: Side, take: Side, pieces: int):
        empty = sharding.same_varying_axes([rows, jnp.zeros((size, *rows.shape[1:]), rows.dtype)])[1]
        give, take = cut(give, pieces), cut(take, pieces)
        return jax.lax.ragged_all_to_all(rows, empty, give.offsets, give.sizes, give.there, take.sizes, axis_name=wire.axis)

    whole = functools.partial(sliced, pieces=1)
    ragged = functools.partial(sliced, pieces=slices(wire.devices, max(rows.shape[0], size)))

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
        by_platform = {name: whole if name == "tpu" else ragged for name in RAGGED}
        return jax.lax.platform_dependent(rows, give, take, **by_platform, default=padded)
    return (ragged if wire.how == "ragged_all_to_all" else padded)(rows, give, take)


def slices(devices: int, rows: int) -> int:
    """Into how many slices the rows for one peer are cut: a power of two, so that XLA deals them out evenly.

    Between processes XLA sends each slice as a message of its own, so there they are not cut.
    """
    if jax.process_count() > 1:
        return 1
    found = 1
    while 2 * found * devices <= BLOCKS and 2 * found <= rows:
        found *= 2
    return found


def cut(side: Side, pieces: int) -> Side:
    """The same rows, those of each peer as so many slices of at most equal size; int32 [n * pieces] each."""
    each = -(-side.sizes[:, None] // pieces)
    begins = jnp.minimum(jnp.arange(pieces, dtype=jnp.int32) * each, side.sizes[:, None])
    sizes = jnp.minimum(each, side.sizes[:, None] - begins)
    return Side(*(x.reshape(-1) for x in (side.offsets[:, None] + begins, sizes, side.there[:, None] + begins)))


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
