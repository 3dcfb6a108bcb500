"""A model on a mesh: its weights where they belong, caches of each device's heads, and the step over all of them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from examples.layers.parts import Batch
from examples.llm import cache, decoder
from examples.llm.config import Config
from examples.llm.decoder import Params
from examples.llm.distributed import axes as axis
from examples.llm.distributed import layout, processes
from examples.llm.distributed.follower import Follower
from examples.llm.distributed.leader import Leader
from examples.llm.serving.runner import Runner
from examples.llm.serving.settings import Settings
from examples.llm.session import Session


def make_mesh(**sizes: int) -> Mesh:
    """Of the first devices of all processes, with axes "expert" and "model", which a name that is not given has one device of.

    Several processes make it within 30 s of each other: see `processes.meet`. ValueError for more devices than there are, and for a
    mesh that leaves out a process.
    """
    shape = {"expert": 1, "model": 1, **sizes}
    count = int(np.prod(list(shape.values())))
    if count > jax.device_count():
        raise ValueError(f"the mesh {sizes} has {count} devices, there are {jax.device_count()}")
    devices = np.asarray(jax.devices()[:count]).reshape(*shape.values())
    mesh = Mesh(devices, tuple(shape), axis_types=(jax.sharding.AxisType.Auto,) * len(shape))
    if jax.process_count() > 1:
        held = {d.process_index for d in mesh.devices.flat}
        if len(held) < jax.process_count():
            raise ValueError(f"the mesh has devices of the processes {sorted(held)} alone, there are {jax.process_count()}")
        processes.meet(mesh)
    return mesh


def put(x: Any, mesh: Mesh, spec: P) -> jax.Array:
    """An array that every process has, as one over the mesh."""
    sharding = NamedSharding(mesh, spec)
    if jax.process_count() == 1:
        return jax.device_put(x, sharding)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


class Program:
    """params: arrays over the mesh, in the decoder's tree. config: of all devices together; local: of one.

    Given as a function that makes them, parameters are made on the devices that hold them, none of which needs room for all; with
    `drawn` False nothing is made, and `params` are their shapes and shardings, for which the steps can be lowered.
    """

    def __init__(self, params: Params | Callable[[], Params], config: Config, mesh: Mesh, drawn: bool = True):
        self.mesh, self.config = mesh, config
        self.axes = axis.serving(dict(mesh.shape))
        self.local = axis.local(config, self.axes)

        def parts() -> Params:
            return layout.widen(layout.separate(params() if callable(params) else params, config), config, self.axes)

        given = layout.specs(jax.eval_shape(parts), config, self.axes)
        self.specs = layout.join(given, config, merge=lambda specs, dim: specs[0])
        self.params: Params = self._placed(parts, callable(params), given) if drawn else self._described(parts)
        heads = [
            P(None, None, a.axis) if (a := layer.attention).axis and not hasattr(a, "rank") else P() for layer in self.local.layers
        ]
        self.caches = [s if hasattr(layer.attention, "rank") else (s, s) for s, layer in zip(heads, config.layers, strict=True)]
        self._step = self._stepped()

    def _placed(self, parts: Callable[[], Params], there: bool, given: Any) -> Params:
        """there: each array is made where it belongs."""
        if there:
            placed = jax.jit(parts, out_shardings=jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), given))()
        else:
            placed = jax.tree.map(lambda x, spec: put(x, self.mesh, spec), parts(), given)
        join = functools.partial(layout.join, config=self.config)
        return jax.jit(jax.shard_map(join, mesh=self.mesh, in_specs=(given,), out_specs=self.specs))(placed)

    def _described(self, parts: Callable[[], Params]) -> Params:
        shapes = jax.eval_shape(lambda: layout.join(parts(), self.config))
        place = lambda x, spec: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(self.mesh, spec))  # noqa: E731
        return jax.tree.map(place, shapes, self.specs)

    def make(self, config: Config, blocks: int, block_size: int, dtype: Any) -> list[Any]:
        """Empty caches, as `examples.llm.cache.make` makes them on one device."""
        del config
        empty = functools.partial(cache.make, self.local, blocks, block_size, dtype)
        return jax.jit(jax.shard_map(empty, mesh=self.mesh, in_specs=(), out_specs=self.caches, check_vma=False))()

    def step(self, params: Params, config: Config, tokens: Any, batch: Batch, caches: list[Any], rows: Any):
        """As `examples.llm.decoder.step`: logits float32 ``[R, V]``, the same on every device, and the caches."""
        del config
        tokens, batch, rows = jax.tree.map(lambda x: put(x, self.mesh, P()), (tokens, batch, rows))
        return self._step(params, tokens, batch, caches, rows)

    def _stepped(self) -> Any:
        words = layout.vocabulary(self.config, self.axes)

        def local(params: Params, tokens: jax.Array, batch: Batch, caches: list[Any], rows: jax.Array):
            return decoder.step(params, self.local, tokens, batch, caches, rows)

        spread = jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(self.specs, P(), P(), self.caches, P()),
            out_specs=(P(None, words or None), self.caches),
        )

        def step(*arguments: Any):
            logits, caches = spread(*arguments)
            return jax.lax.with_sharding_constraint(logits, NamedSharding(self.mesh, P())), caches

        return jax.jit(step, donate_argnums=3)

    def session(self, **settings: Any) -> Session:
        return Session(self.params, self.config, make=self.make, step=self.step, **settings)

    def runner(self, settings: Settings, leader: Leader | None = None) -> Runner:
        """For an engine that serves from this mesh. leader: in process 0 of several that have its devices; all others `follow`."""
        step, fault = self.step, None
        if leader is not None:
            leader.agree(self._said(settings))
            step, fault = leader.steps(step, settings), leader.fault
        return Runner(self.params, self.config, settings, make=self.make, step=step, fault=fault)

    def follow(self, settings: Settings, follower: Follower) -> int:
        """Run the steps of the engine in process 0 until that ends; how many there were."""
        follower.agree(self._said(settings))
        caches = self.make(self.config, settings.blocks, settings.block_size, self.params["embed"].dtype)
        return follower.follow(self.step, self.params, self.config, caches, settings)

    def _said(self, settings: Settings) -> str:
        return f"{settings}, {dict(self.mesh.shape)}, {self.config}, {jax.tree.map(jax.typeof, self.params)}"


def logits_of(program: Program, tokens: jax.Array) -> jax.Array:
    """float32 ``[B, S, V]`` of whole sequences, as `examples.llm.decoder.forward` gives."""
    words = layout.vocabulary(program.config, program.axes)
    forward = lambda params, tokens: decoder.forward(params, program.local, tokens)  # noqa: E731
    run = jax.shard_map(forward, mesh=program.mesh, in_specs=(program.specs, P()), out_specs=P(None, None, words or None))
    return jax.jit(run)(program.params, put(jnp.asarray(tokens), program.mesh, P()))
