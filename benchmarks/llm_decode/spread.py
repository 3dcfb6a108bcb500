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
from examples.llm.distributed import layout, program


class Spread:
    """One size on a mesh. Its parameters are drawn where they belong."""

    def __init__(self, size: Size, sizes: dict[str, int]):
        self.size = size = dataclasses.replace(size, scanned=False)
        self.program = program.Program(size.params, size.config, program.make_mesh(**sizes))

    def state(self) -> Any:
        """To be made inside of `jax.jit`: caches of each device's heads, the rest on every device."""
        specs = self.specs()
        return jax.tree.map(
            lambda x, spec: jax.lax.with_sharding_constraint(x, NamedSharding(self.program.mesh, spec)),
            forms.state(self.size, self._wide()),
            specs,
        )

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

    def lowered(self, way: Way) -> Any:
        """The way's program for its parameters as they lie; plain JAX keeps no account of what varies over which axis."""
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
        placed = jax.tree.map(
            lambda x, spec: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec)), state, self.specs()
        )
        with way.settings():
            return jax.jit(step, donate_argnums=1).lower(structs, placed)

    def run(self, ways: list[Way], threads: int, count: int) -> dict[str, Any]:
        made = measure.compiled({way.name: (lambda way=way: self.lowered(way)) for way in ways}, threads)
        return measure.decode(self.program.params, self.state, self.size.batch, ways, made, self.size.logits, count)
