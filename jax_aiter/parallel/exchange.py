"""Tokens to the devices that hold their experts, and the results back: two linear maps, each the other's transpose."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind import switches
from jax_aiter.ops.quant import numerics
from jax_aiter.parallel.plan import Plan
from jax_aiter.parallel.transport import Wire, move_all


def _dispatch(values: tuple[jax.Array, ...], plan: Plan, wire: Wire) -> tuple[jax.Array, ...]:
    """Each [T, c] -> [room, c]: a token's row on every device that holds any of its experts, zeros after the last that arrives.

    The first travels coded if the wire says so. The gradient of a float array sums over the devices in float32, past the rounding
    of a code; there is none of integers.
    """
    with switches.pinned():
        first, *rest = values
        sent = values if wire.coded is None else (*_coded(first, wire.coded), *rest)
        got = move_all([x[plan.tokens] for x in sent], wire.room, plan.sent, plan.received, wire)
        return tuple(got) if wire.coded is None else (_decoded(got[0], got[1], wire.coded, first.dtype), *got[2:])


def _coded(x: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Bits of x / scale in `dtype`, and a scale per row."""
    scale = numerics.amax_scale(x, dtype, axis=-1)
    return jax.lax.bitcast_convert_type(numerics.saturating_cast(x.astype(jnp.float32) / scale, dtype), jnp.uint8), scale


def _decoded(bits: jax.Array, scale: jax.Array, coded: Any, dtype: Any) -> jax.Array:
    return (jax.lax.bitcast_convert_type(bits, coded).astype(jnp.float32) * scale).astype(dtype)


def _dispatch_forward(values, plan, wire):
    return _dispatch(values, plan, wire), plan


def _dispatch_backward(wire, plan, cotangents):
    floats = [ct for ct in cotangents if ct.dtype != jax.dtypes.float0]
    found = iter(_collected(floats, plan, wire))
    return tuple(None if ct.dtype == jax.dtypes.float0 else next(found).astype(ct.dtype) for ct in cotangents), None


dispatch: Any = jax.custom_vjp(_dispatch, nondiff_argnums=(2,))
dispatch.defvjp(_dispatch_forward, _dispatch_backward)


def _combine(rows: jax.Array, plan: Plan, wire: Wire, dtype: jnp.dtype) -> jax.Array:
    """[room, D] -> [T, D] in `dtype`: the sum, in float32, of what a token's rows became on the devices that they went to."""
    return _collected([rows], plan, wire)[0].astype(dtype)


def _combine_forward(rows, plan, wire, dtype):
    return _combine(rows, plan, wire, dtype), (jnp.zeros(0, rows.dtype), plan)


def _combine_backward(wire, dtype, saved, cotangent):
    like, plan = saved
    return dispatch((cotangent.astype(like.dtype),), plan, dataclasses.replace(wire, coded=None))[0], None


combine: Any = jax.custom_vjp(_combine, nondiff_argnums=(2, 3))
combine.defvjp(_combine_forward, _combine_backward)


def _collected(values: Sequence[jax.Array], plan: Plan, wire: Wire) -> list[jax.Array]:
    """float32 [T, c] of each [room, c]: its rows sent back and summed by token."""
    with switches.pinned():
        return [_summed(x, plan.rows) for x in move_all(values, wire.sends, plan.received, plan.sent, wire)]


def _summed(rows: jax.Array, index: jax.Array) -> jax.Array:
    """float32 [T, c]: the sum of each token's rows [T, n], -1 for none.

    One gather after the other, which a GPU does as one pass: of a gathered [T, n, c] that is reduced XLA makes a column reduction,
    several times as slow.
    """
    total = jnp.zeros((index.shape[0], rows.shape[1]), jnp.float32)
    if not rows.size:
        return total
    for at in jnp.unstack(index, axis=1):
        total = total + jnp.where((at >= 0)[:, None], rows[jnp.maximum(at, 0)].astype(jnp.float32), 0.0)
    return total
