"""Which rows each device sends to which, and where they stand at both ends: all of it follows from one gathered table of counts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.ops.moe.forms import groups as moe_groups
from jax_aiter.ops.shared.running_sum import running_sum


class Side(NamedTuple):
    """Rows that stand in an array of this device, by peer; int32 [n] each.

    offsets, sizes: where the peer's rows begin here, and how many there are.
    there: where the same rows begin in the peer's own array.
    """

    offsets: jax.Array
    sizes: jax.Array
    there: jax.Array


class Plan(NamedTuple):
    """The exchange of one routing, int32. S rows are sent at most: a token goes once to each device that holds any of its experts.

    tokens: [S], the token of each row, in the order device, token.
    rows: [T, min(k, n)], the rows that carry each token: by device, or by slot where there are fewer of these. -1 for none: no
        expert there, a device that an earlier slot names already, no room.
    sent: the rows to send. received: the rows that arrive, one device's after the other's.
    short: bool [T], tokens with a row that found no room where it was to go. lost: [], how many such rows this device has.
    """

    tokens: jax.Array
    rows: jax.Array
    sent: Side
    received: Side
    short: jax.Array
    lost: jax.Array


def holders(topk_ids: jax.Array, held: int, devices: int) -> jax.Array:
    """The device that holds each entry's expert, of `held` on each; -1 for ids outside of all experts."""
    known = (topk_ids >= 0) & (topk_ids < held * devices)
    return jnp.where(known, topk_ids // held, -1)


def make(topk_ids: jax.Array, held: int, axis: tuple[str, ...], devices: int, room: int) -> Plan:
    """Of this device's ids [T, k]; `room` rows may arrive at each device, in the order of the devices that they come from."""
    tokens, k = topk_ids.shape
    holder = holders(topk_ids, held, devices)
    earlier = jnp.tril(jnp.ones((k, k), bool), -1)
    again = jnp.any((holder[:, :, None] == holder[:, None, :]) & earlier, axis=2)
    goes = jnp.where(again, -1, holder)
    # No jnp.searchsorted: jax 0.10.2 cannot trace it in a partly manual program.
    own = jnp.sum(goes.reshape(-1, 1) == jnp.arange(devices), axis=0, dtype=jnp.int32)
    counts = jax.lax.all_gather(own, axis)  # [from, to]

    begins = _before(counts)  # [from, to], in the array that receives
    kept = jnp.clip(room - begins, 0, counts)
    stands = _before(counts.T).T  # [from, to], in the array that sends
    begins = jnp.minimum(begins, room)
    me = jax.lax.axis_index(axis)
    sent = Side(*(_row(x, me) for x in (stands, kept, begins)))
    received = Side(*(_row(x.T, me) for x in (begins, kept, stands)))

    order, _ = moe_groups.by_expert(goes, devices)
    row = jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=jnp.int32), unique_indices=True).reshape(goes.shape)
    at = jnp.maximum(goes, 0)
    lost = (goes >= 0) & (row - sent.offsets[at] >= sent.sizes[at])
    rows = jnp.where((goes >= 0) & ~lost, row, -1)
    if devices < k:
        rows = jnp.stack([jnp.max(jnp.where(goes == peer, rows, -1), axis=1, initial=-1) for peer in range(devices)], axis=1)
    order = order[: tokens * min(k, devices)]
    return Plan(order // k, rows, sent, received, jnp.any(lost, axis=1), jnp.sum(lost, dtype=jnp.int32))


def _before(table: jax.Array) -> jax.Array:
    """The sum of the rows above each row."""
    return running_sum(table) - table


def _row(table: jax.Array, index: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(table, index, keepdims=False)
