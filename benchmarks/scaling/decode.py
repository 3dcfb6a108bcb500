"""Decode steps of a model on meshes: heads and columns split over all devices, experts spread over "expert", split over "model"."""

from __future__ import annotations

import dataclasses
import functools
import gc
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.llm_decode import forms
from benchmarks.llm_decode.forms import Way
from benchmarks.llm_decode.models import Size
from benchmarks.llm_decode.spread import Spread
from benchmarks.scaling.case import Case, Row, summary
from examples.llm.decoder import Params
from examples.llm.distributed.program import Program, make_mesh
from jax_aiter.cli.bench.measure import short

ROUNDS, STEPS = 3, 24
WAY = Way("auto")


def named(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items()) or "one device"


@dataclasses.dataclass(frozen=True)
class Decode:
    """size: the model and its context, in any batch."""

    size: Size
    batches: tuple[int, ...]
    meshes: tuple[dict[str, int], ...]

    def _sized(self, batch: int) -> Size:
        return dataclasses.replace(self.size, batch=batch)

    def cases(self) -> dict[str, Case]:
        made = {}
        for mesh in self.meshes:
            described = Program(self.size.drawn, self.size.config, make_mesh(**mesh), drawn=False)
            for batch in self.batches:
                made[self._key(mesh, batch)] = Case(*Spread(self._sized(batch), described).stepped(WAY))
        for batch in self.batches:
            made[f"draw {batch}"] = Case(jax.jit(functools.partial(forms.state, self._sized(batch))), (), False)
        return made

    @staticmethod
    def _key(mesh: Mapping[str, int], batch: int) -> str:
        return f"decode on {named(mesh)}, batch {batch}"

    def prepare(self) -> Params:
        """The parameters; every mesh gets its own once, by programs that compile."""
        params = self.size.drawn()
        for mesh in self.meshes:
            Program(params, self.size.config, make_mesh(**mesh))
        return params

    def rows(self, made: Mapping[str, Any], prepared: Params) -> Iterator[Row]:
        want: dict[int, np.ndarray] = {}
        for mesh in self.meshes:
            program = Program(prepared, self.size.config, make_mesh(**mesh))
            for batch in self.batches:
                row: Row = {"part": "decode", "mesh": mesh, "devices": program.mesh.size, "batch": batch}
                row |= {"layers": len(self.size.config.layers), "context": self.size.context}
                try:
                    row |= self._timed(Spread(self._sized(batch), program), made, self._key(mesh, batch), want)
                except Exception as error:  # out of memory, say: the others go on
                    row["failed"] = short(error)
                gc.collect()
                yield row
            del program

    def _timed(self, spread: Spread, made: Mapping[str, Any], key: str, want: dict[int, np.ndarray]) -> Row:
        batch, program, params = spread.size.batch, made[key], spread.program.params
        if isinstance(program, str):
            return {"failed": program}
        state, logits = program(params, spread.repeated(made[f"draw {batch}"]()))
        got = np.asarray(logits)
        first = want.setdefault(batch, got) if spread.program.mesh.size == 1 else want.get(batch)
        seconds = []
        for number in range(1 + ROUNDS):
            start = time.perf_counter()
            for _ in range(STEPS):
                state, _ = program(params, state)  # each waits for the state of the last
            jax.block_until_ready(state)
            seconds += [(time.perf_counter() - start) / STEPS] if number else []
        found = summary(seconds)
        row = {**found, "tokens_per_s": batch / found["s"]}
        if first is None:  # one device had no room for this batch, or was not asked for
            return row
        row["difference"] = apart = float(np.linalg.norm(got - first) / np.linalg.norm(first))
        if not apart <= self.size.logits:
            row["failed"] = f"other logits than on one device: {apart:.2e} apart, {self.size.logits:.0e} allowed"
        return row


def describe(size: Size) -> str:
    shapes = jax.eval_shape(size.drawn)
    billions = sum(x.size for x in jax.tree.leaves(shapes)) / 1e9
    return (
        f"{size.raw['model_type']}, {len(size.config.layers)} layers, {billions:.3g} billion random parameters, "
        f"{jnp.dtype(size.dtype).name}, contexts of {size.context}"
    )
