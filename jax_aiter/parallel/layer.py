"""One call of `expert_parallel`: the experts held here, computed for what arrives."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind import data, sharding, switches
from jax_aiter.core.config import config
from jax_aiter.ops.moe import rules as moe_rules
from jax_aiter.ops.moe.formats import quant
from jax_aiter.ops.moe.forms import expert as moe_expert
from jax_aiter.ops.moe.fused_moe import fused_moe
from jax_aiter.parallel import everywhere, exchange, rules
from jax_aiter.parallel import plan as plans
from jax_aiter.parallel.transport import Wire


@dataclasses.dataclass(frozen=True)
class Layer:
    """axis, devices: the mesh axes and how many devices they span. held, experts: how many experts are here, and what they are.

    settings: those of `fused_moe`. coded: what hidden states travel in, None for their own dtype.
    """

    axis: tuple[str, ...]
    devices: int
    held: int
    experts: Mapping[str, Any]
    a2_scale: jax.Array | None
    settings: Mapping[str, Any]
    dtype: Any
    coded: Any = None

    def __call__(self, tokens: Mapping[str, Any], count: Any, method: str, capacity: int | None) -> Any:
        x, weight, ids, scale = (tokens[n] for n in ("hidden_states", "topk_weight", "topk_ids", "a1_scale"))
        with switches.pinned():
            ids = self._checked(ids, count)
            if count is not None:
                ids = jnp.where(jnp.arange(ids.shape[0])[:, None] < jnp.asarray(count, jnp.int32).reshape(()), ids, -1)
            scale = self._whole_scale(x, ids) if scale is None else scale
        quantised = x.dtype.itemsize == 1  # a float that has no gradient; its bits have none either, nor those of its scales
        values: tuple[Any, ...] = (
            _bits(x) if quantised else x,
            weight,
            ids,
            *([_bits(scale)] if scale is not None and scale.ndim == 2 else []),
        )

        def compute(rows, weight, ids, row_scale=None, *, count=None, dtype=self.dtype):
            with config(debug_checks=False):  # they would take for wrong an id of an expert that is elsewhere
                return fused_moe(
                    jax.lax.bitcast_convert_type(rows, x.dtype) if quantised else rows,
                    topk_weight=weight,
                    topk_ids=self._local(ids),
                    a1_scale=scale if row_scale is None else jax.lax.bitcast_convert_type(row_scale, jnp.float32),
                    a2_scale=self.a2_scale,
                    num_local_tokens=count,
                    output_dtype=dtype,
                    **self.experts,
                    **self.settings,
                )

        if not x.shape[0]:  # JAX gathers no empty arrays
            return self._nothing(values, capacity)
        if method == "psum":
            split = not rules.replicated(tokens, self.axis)
            way = everywhere.of_split_tokens if split else everywhere.of_replicated_tokens

            def part(rows, *others):
                # All rows are there; but a count says that slots may have no expert here, for which kernels then do nothing.
                return compute(rows, *others, dtype=jnp.float32, count=jnp.full(1, rows.shape[0], jnp.int32))

            return way(values, part, self.axis, self.dtype)
        return self.exchanged(values, compute, method, capacity)

    def exchanged(self, values, compute, method: str, capacity: int | None):
        """`compute` gives what becomes of the rows that arrive here; with `capacity` also how many found no room."""
        values = tuple(everywhere.varying(x, self.axis) for x in values)
        tokens, k = values[2].shape
        most = self.devices * tokens
        room = most if capacity is None else min(capacity, most)
        wire = Wire(self.axis, self.devices, method, min(tokens, room), tokens * min(k, self.devices), room, self.coded)
        with switches.pinned():
            plan = plans.make(values[2], self.held, self.axis, self.devices, room)
            arrived = jnp.sum(plan.received.sizes).reshape(1)
            if self.coded is not None:
                values = (moe_expert.keep(values[0], 1, self.settings["hidden_pad"]), *values[1:])
        rows = exchange.dispatch(values, plan, wire)
        out = exchange.combine(compute(*rows, count=arrived), plan, wire, self.dtype)
        if capacity is None:
            return out
        out = jnp.where(plan.short[:, None], jnp.asarray(jnp.nan, out.dtype), out)
        return out, jax.lax.psum(plan.lost, self.axis)

    def _nothing(self, values, capacity: int | None):
        out = jnp.zeros((0, self.experts["w2"].shape[1]), self.dtype)
        out = sharding.same_varying_axes([*values, out])[-1]
        return out if capacity is None else (out, jnp.zeros((), jnp.int32))

    def _local(self, ids: jax.Array) -> jax.Array:
        """Ids of the experts held here, -1 for all others."""
        with switches.pinned():
            local = ids - self.held * jax.lax.axis_index(self.axis)
            return jnp.where((local >= 0) & (local < self.held), local, -1)

    def _whole_scale(self, x: jax.Array, ids: jax.Array) -> jax.Array | None:
        """The dynamic per-tensor scale of all tokens that have an expert; None where none is asked for."""
        if self.settings["quant_type"] != "per_tensor":
            return None
        taken = jnp.any(plans.holders(ids, self.held, self.devices) >= 0, axis=1)
        wide = moe_expert.keep(jax.lax.stop_gradient(x).astype(jnp.float32), 1, self.settings["hidden_pad"])
        top = jnp.max(jnp.where(taken[:, None], jnp.abs(wide), 0.0), initial=0.0)
        return quant.amax_scale(jax.lax.pmax(top, self.axis), self.experts["w1"].dtype)

    def _checked(self, ids: jax.Array, count: Any) -> jax.Array:
        if not config.debug_checks or not ids.size:
            return ids
        count = None if count is None else jnp.asarray(count, jnp.int32).reshape(1)
        broken = moe_rules.routing_checks(ids, self.held * self.devices, None, count)
        others = sorted(sharding.varying_axes(jax.typeof(ids)) - set(self.axis))  # of a data axis, say: its sums wait too
        return data.checked(rules.OP, broken, ids, (*self.axis, *others))


def _bits(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint8 if x.dtype.itemsize == 1 else jnp.int32)
