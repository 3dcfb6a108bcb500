"""The same steps on a mesh: this package as `examples.llm.distributed` runs it, and plain JAX on the same shares of the weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.llm_decode import forms
from benchmarks.llm_decode.forms import Way
from benchmarks.llm_decode.models import Size
from benchmarks.model_step import measure
from examples.llm.config import Config
from examples.llm.distributed import axes as axis
from examples.llm.distributed import layout
from examples.llm.distributed.program import Program


class Spread:
    """One size on a mesh, its parameters as `program` has them: drawn where they belong, or only described."""

    def __init__(self, size: Size, program: Program):
        self.size, self.program = dataclasses.replace(size, scanned=False), program

    def state(self) -> Any:
        """To be made inside of `jax.jit`: caches of each device's heads, the rest on every device."""
        return jax.tree.map(jax.lax.with_sharding_constraint, forms.state(self.size, self._wide()), self.shardings())

    def specs(self) -> Any:
        return self.program.caches, P(), P()

    def _wide(self) -> Config:
        """With heads of keys as often as devices hold them."""

        def wide(layer: Any) -> Any:
            times = axis.repeats(layer.attention, self.program.axes)
            return dataclasses.replace(
                layer, attention=dataclasses.replace(layer.attention, kv_heads=layer.attention.kv_heads * times)
            )

        return dataclasses.replace(self.size.config, layers=tuple(map(wide, self.size.config.layers)))

    def stepped(self, way: Way) -> tuple[Any, tuple[Any, Any]]:
        """The way's program, jitted, and shapes of what it takes: its parameters as they lie, and the state. Plain JAX keeps no
        account of what varies over which axis."""
        own = way.own(self.program.params)
        words = layout.vocabulary(self.size.config, self.program.axes)
        mesh, one = self.program.mesh, way.step(self.size, self.program.local)

        def local(params: Any, state: Any) -> Any:
            (caches, _, tables), logits = one(params, state)
            return caches, tables, logits

        given = jax.tree.map(lambda x: x.sharding.spec, own)
        run = jax.shard_map(
            local, mesh=mesh, in_specs=(given, self.specs()), out_specs=(self.program.caches, P(), P(None, words or None)),
            check_vma=way.form is None,
        )  # fmt: skip

        def step(params: Any, state: Any) -> Any:
            caches, tables, logits = run(params, state)
            logits = jax.lax.with_sharding_constraint(logits, NamedSharding(mesh, P()))
            return (caches, jnp.argmax(logits, axis=-1).astype(jnp.int32), tables), logits

        structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), own)
        state = jax.eval_shape(lambda: forms.state(self.size, self._wide()))
        placed = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state, self.shardings())
        return jax.jit(step, donate_argnums=1), (structs, placed)

    def shardings(self) -> Any:
        """Of the state."""
        return jax.tree.map(lambda spec: NamedSharding(self.program.mesh, spec), self.specs())

    def lowered(self, way: Way) -> Any:
        program, arguments = self.stepped(way)
        with way.settings():
            return program.lower(*arguments)

    def repeated(self, state: Any) -> Any:
        """A state of the whole model, with heads of keys as often as devices hold them, where it belongs."""
        caches, *rest = state
        heads = [axis.repeats(layer.attention, self.program.axes) for layer in self.size.config.layers]
        wide = [jax.tree.map(lambda x, n=n: jnp.repeat(x, n, axis=2), c) for c, n in zip(caches, heads, strict=True)]
        return jax.tree.map(lambda x, place: jax.device_put(x, place, may_alias=False), (wide, *rest), self.shardings())

    def run(self, ways: list[Way], threads: int, count: int) -> dict[str, Any]:
        made = measure.compiled({way.name: (lambda way=way: self.lowered(way)) for way in ways}, threads)
        return measure.decode(self.program.params, self.state, self.size.batch, ways, made, self.size.logits, count)
