"""fused_moe with its experts spread over devices: by the exchange, by the masked sum, and `lax.ragged_dot` on the same mesh."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from benchmarks.model_step import parts
from benchmarks.scaling.case import Case, Row, timed
from benchmarks.scratch import temporary_bytes
from jax_aiter import fused_moe
from jax_aiter.cli.bench import moe
from jax_aiter.cli.bench.measure import apart, short
from jax_aiter.parallel import expert_parallel
from jax_aiter.parallel.layer import Layer

AXIS = "expert"
ALONE = "exchange alone"
SWAPPED = (1, 2)  # w1 and w2 among the operands
PLAIN = "ragged_dot"
#: Bytes that the operand may need which XLA makes of `lax.ragged_dot`'s on GPUs, every row for every expert: forward, and with the
#: gradient, which has several. Where it needs more the program is not even compiled.
EXPANDED = {False: 20e9, True: 10e9}


@dataclasses.dataclass(frozen=True)
class Size:
    """One layer; tokens: of all devices together. bound: how far results may be apart (relative, Frobenius norm)."""

    experts: int
    topk: int
    model: int
    inter: int
    tokens: int
    dtype: Any
    bound: float

    @property
    def shape(self) -> str:
        return f"E{self.experts} k{self.topk} D{self.model} I{self.inter}"

    def draw(self) -> tuple[jax.Array, ...]:
        """x, w1, w2, weights, ids; each token's experts distinct, uniform over all."""
        keys = jax.random.split(jax.random.key(0), 5)
        normal = lambda i, *s, std=1.0: (jax.random.normal(keys[i], s) * std).astype(self.dtype)  # noqa: E731
        weights = jax.random.uniform(keys[3], (self.tokens, self.topk))
        _, ids = jax.lax.top_k(jax.random.uniform(keys[4], (self.tokens, self.experts)), self.topk)
        return (
            normal(0, self.tokens, self.model),
            normal(1, self.experts, 2 * self.inter, self.model, std=self.model**-0.5),
            normal(2, self.experts, self.model, self.inter, std=self.inter**-0.5),
            weights / jnp.sum(weights, axis=1, keepdims=True),
            ids.astype(jnp.int32),
        )


def stepped(function: Any, gradient: bool, floats: tuple[int, ...] = (0, 1, 2, 3)) -> Any:
    if not gradient:
        return jax.jit(function)

    def loss(*operands: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = function(*operands)
        return jnp.sum(y.astype(jnp.float32) ** 2), y

    def step(*operands: jax.Array) -> Any:
        (_, y), gradients = jax.value_and_grad(loss, argnums=floats, has_aux=True)(*operands)
        return y, *gradients

    return jax.jit(step)


def exchanged(x: jax.Array, weight: jax.Array, ids: jax.Array, *, held: int, devices: int) -> jax.Array:
    """What `expert_parallel` does beside its experts: rows to all that hold one of theirs, and the sums back. All that arrives is
    read."""

    def touched(rows: jax.Array, weight: jax.Array, ids: jax.Array, *, count: Any) -> jax.Array:
        del count
        return rows + jnp.sum(jnp.where(ids >= 0, weight, 0.0), axis=1, keepdims=True).astype(rows.dtype)

    layer: Any = Layer((AXIS,), devices, held, {}, None, {"hidden_pad": 0}, x.dtype)
    return layer.exchanged((x, weight, ids), touched, "exchange", None)


def plain(x: jax.Array, w1: jax.Array, w2: jax.Array, weight: jax.Array, ids: jax.Array) -> jax.Array:
    """In JAX alone, on a mesh: the tokens of all, sort + `lax.ragged_dot` with the experts held here, and the sum. w1 and w2 as
    `moe.ragged` has them."""
    x, weight, ids = (jax.lax.all_gather(a, AXIS, tiled=True) for a in (x, weight, ids))
    ids, weight = parts.held_here(ids, weight, jax.lax.axis_index(AXIS) * len(w1), len(w1))
    y = moe.ragged({"hidden_states": x, "w1": w1, "w2": w2, "topk_weight": weight, "topk_ids": ids})
    return jax.lax.psum_scatter(y.astype(jnp.float32), AXIS, tiled=True).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to run a layer on so many devices: what it is called with, and how its results become ours."""

    name: str
    devices: int
    function: Any

    def operands(self, drawn: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.name == ALONE:
            return drawn[0], *drawn[3:]
        return tuple(x.swapaxes(1, 2) if self.swapped and i in SWAPPED else x for i, x in enumerate(drawn))

    @property
    def swapped(self) -> bool:
        return self.name == PLAIN

    @property
    def floats(self) -> tuple[int, ...]:
        return (0, 1) if self.name == ALONE else (0, 1, 2, 3)

    def restored(self, results: Any, gradient: bool) -> Any:
        """The gradients of w1 and w2 stand behind the output and that of x."""
        if not gradient or not self.swapped:
            return results
        return tuple(x.swapaxes(1, 2) if i in (2, 3) else x for i, x in enumerate(results))


def ways(size: Size, devices: int) -> list[Way]:
    if devices == 1:
        own = lambda *a: moe.ragged(dict(zip(("hidden_states", "w1", "w2", "topk_weight", "topk_ids"), a, strict=True)))  # noqa: E731
        return [Way("fused_moe", 1, fused_moe), Way(PLAIN, 1, own)]

    def spread(function: Any) -> Any:
        return jax.shard_map(function, mesh=mesh_of(devices), in_specs=P(AXIS), out_specs=P(AXIS))

    def ours(method: str) -> Any:
        return spread(lambda *a: expert_parallel(*a, axis_name=AXIS, method=method))

    alone = spread(lambda *a: exchanged(*a, held=size.experts // devices, devices=devices))
    own = [Way(method, devices, ours(method)) for method in ("exchange", "psum")]
    return [*own, Way(ALONE, devices, alone), Way(PLAIN, devices, spread(plain))]


def mesh_of(devices: int) -> Mesh:
    return Mesh(np.asarray(jax.devices()[:devices]), (AXIS,))


def sharding(devices: int) -> Any:
    return NamedSharding(mesh_of(devices), P(AXIS)) if devices > 1 else SingleDeviceSharding(jax.devices()[0])


@dataclasses.dataclass(frozen=True)
class Experts:
    """This part of the benchmark. devices: 1 and more. plain: the ways in JAX alone, or this package's. memory: of one device, in
    bytes, if it says so.
    """

    sizes: tuple[Size, ...]
    devices: tuple[int, ...]
    plain: bool
    gradients: tuple[bool, ...] = (False, True)
    memory: int | None = None

    def _ways(self) -> Iterator[tuple[str, Size, bool, Way]]:
        for size in self.sizes:
            for gradient in self.gradients:
                for way in (way for n in self.devices for way in ways(size, n) if self._wanted(way)):
                    key = f"moe {size.shape} T{size.tokens}{' fwd+bwd' if gradient else ''}, {way.name} on {way.devices}"
                    yield key, size, gradient, way

    def _wanted(self, way: Way) -> bool:
        """`fused_moe` on one device is what all are compared with."""
        return way.name == "fused_moe" or (way.name == PLAIN) is self.plain

    def _expanded(self, size: Size, gradient: bool, way: Way) -> str | None:
        """Why a form is not tried."""
        rows = size.tokens * size.topk * max(size.model, 2 * size.inter)
        needed = size.experts // way.devices * rows * jnp.dtype(size.dtype).itemsize
        if way.name != PLAIN or needed <= EXPANDED[gradient]:
            return None
        return f"does not fit: {needed / 1e9:,.0f} GB"

    def cases(self) -> dict[str, Case]:
        made = {}
        for key, size, gradient, way in self._ways():
            if self._expanded(size, gradient, way):
                continue
            drawn = jax.eval_shape(size.draw)
            given = jax.eval_shape(way.operands, drawn)
            structs = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding(way.devices)) for x in given]
            made[key] = Case(stepped(way.function, gradient, way.floats), structs, way.name not in (ALONE, PLAIN))
        for size in self.sizes:
            made[f"draw {size.shape} T{size.tokens}"] = Case(jax.jit(size.draw), (), False)
            for gradient in self.gradients:
                results = jax.eval_shape(stepped(fused_moe, gradient), *jax.eval_shape(size.draw))
                made[self._compare(size, gradient)] = Case(jax.jit(apart), (results, results), False)
        return made

    @staticmethod
    def _compare(size: Size, gradient: bool) -> str:
        return f"compare {size.shape} T{size.tokens}{' fwd+bwd' if gradient else ''}"

    def prepare(self) -> None:
        """Nothing: operands are drawn when their layer is measured."""

    def rows(self, made: Mapping[str, Any], prepared: None = None) -> Iterator[Row]:
        for size in self.sizes:
            drawn = None
            for gradient in self.gradients:
                chosen = {key: way for key, s, g, way in self._ways() if s == size and g == gradient}
                if self.plain and all(self._expanded(size, gradient, way) for way in chosen.values() if way.name == PLAIN):
                    chosen = {key: way for key, way in chosen.items() if way.name == PLAIN}
                elif drawn is None:
                    drawn = made[f"draw {size.shape} T{size.tokens}"]()
                yield from self._compared(size, gradient, chosen, drawn, made)
                gc.collect()

    def _compared(self, size: Size, gradient: bool, chosen: Mapping[str, Way], drawn: Any, made: Mapping[str, Any]) -> list[Row]:
        """One layer by every way on every mesh, against fused_moe on one device."""
        found: dict[str, Row] = {}
        calls: dict[str, Callable[[], Any]] = {}
        want, compare, placed = None, made[self._compare(size, gradient)], {}
        for key, way in chosen.items():
            row: Row = {"part": "moe", "shape": size.shape, "tokens": size.tokens, "gradient": gradient}
            row = found[key] = {**row, "devices": way.devices, "way": way.name}
            program = self._expanded(size, gradient, way) or made[key]
            if isinstance(program, str):
                row["failed"] = program
                continue
            row["temporary_bytes"] = temporary_bytes(program)
            if self.memory is not None and row["temporary_bytes"] > 0.8 * self.memory:
                row["failed"] = f"not run: XLA's temporaries are {row['temporary_bytes'] / 1e9:,.0f} GB"
                continue
            try:
                if (layout := (way.swapped, way.devices)) not in placed:
                    whole = tuple(x.swapaxes(1, 2) if way.swapped and i in SWAPPED else x for i, x in enumerate(drawn))
                    placed[layout] = [jax.device_put(x, sharding(way.devices)) for x in whole]
                held = placed[layout]
                operands = (held[0], *held[3:]) if way.name == ALONE else tuple(held)
                got = jax.block_until_ready(program(*operands))
            except Exception as error:  # out of memory, say: the others go on
                row["failed"] = short(error)
                continue
            if way.name != ALONE:
                got = jax.device_put(way.restored(got, gradient), jax.devices()[0])
                want = got if want is None else want
                row["difference"] = float(compare(got, want))
                if not row["difference"] <= size.bound:
                    row["failed"] = f"other numbers than fused_moe: {row['difference']:.2e} apart, {size.bound:.0e} allowed"
            del got
            calls[key] = lambda program=program, operands=operands: program(*operands)
        want = None
        for key, seconds in timed(calls).items():
            found[key] |= seconds
        return [row for row in found.values() if not self.plain or row["way"] == PLAIN]
