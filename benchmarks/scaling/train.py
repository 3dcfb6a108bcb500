"""A training step of examples/train on meshes: the same batch on more devices, and as many sequences on each device."""

from __future__ import annotations

import dataclasses
import gc
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.scaling.case import Case, Row, summary
from examples.llm import architectures, rope
from examples.llm.distributed import layout
from examples.train import model, step
from examples.train.init import init
from examples.train.loss import Loss
from jax_aiter.cli.bench.measure import short

TRAINED = 5  # steps, of which the first is not timed
WARMED = 20  # steps that the rate of learning is planned for: from the second on parameters change


@dataclasses.dataclass(frozen=True)
class Run:
    """One mesh and one batch; the state and the program of a step."""

    trainer: step.Trainer
    mesh: dict[str, int]
    batch: int

    @property
    def key(self) -> str:
        mesh = ", ".join(f"{name} {size}" for name, size in self.mesh.items()) or "one device"
        return f"train on {mesh}, batch {self.batch} in {self.trainer.accumulate}"

    def begin(self) -> Any:
        """``params -> state``, jitted."""
        made = lambda params: {"params": params, "optimiser": self.trainer.optimise.init(params)}  # noqa: E731
        return jax.jit(made, out_shardings=self.trainer.shardings())

    def shape(self, sequence: int) -> tuple[int, int, int]:
        """Of the tokens as the step takes them."""
        return self.trainer.accumulate, self.batch // self.trainer.accumulate, sequence + 1

    def tokens(self, sequence: int) -> np.ndarray:
        """Something to be learnt: the next byte is near the last."""
        drawn = np.random.default_rng(0).integers(0, 64, (self.batch, sequence + 1))
        return (drawn.cumsum(1) % 251).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Training:
    """sizes: of `examples.train.model.configuration`. strong: sequences of the batch that is the same on every mesh; weak: of each
    device. bound: how far losses may be from those of one device (relative), of every step.
    """

    sizes: dict[str, int]
    meshes: tuple[dict[str, int], ...]
    strong: int
    weak: int
    dtype: Any
    bound: float

    @property
    def raw(self) -> dict[str, Any]:
        return model.configuration(**self.sizes)

    def runs(self) -> list[Run]:
        """Both batches of every mesh, each once; and every batch on one device, in parts no larger than the strong one."""
        config = architectures.read(self.raw)
        found: dict[str, Run] = {}
        devices = [math.prod(mesh.values()) for mesh in self.meshes]
        alone = [({}, batch) for batch in sorted({self.strong, *(self.weak * n for n in devices)})]
        spread = [(mesh, batch) for mesh, n in zip(self.meshes, devices, strict=True) for batch in (self.strong, self.weak * n)]
        for mesh, batch in [*alone, *spread]:
            loss = Loss(config, step.make_mesh(**mesh), self.dtype)
            parts = 1 if mesh else max(1, batch // self.strong)
            run = Run(step.Trainer(loss, self.raw, step.optimiser(WARMED, 4e-4), parts), mesh, batch)
            found.setdefault(run.key, run)
        return list(found.values())

    def cases(self) -> dict[str, Case]:
        made, ropes = {}, jax.eval_shape(self._ropes)
        for run in self.runs():
            state = run.trainer.abstract()
            tokens = jax.ShapeDtypeStruct(run.shape(self.sizes["sequence"]), jnp.int32, sharding=run.trainer.split())
            made[run.key] = Case(run.trainer.step(), (state, ropes, tokens))
            made[f"begin {run.key}"] = Case(run.begin(), (state["params"],), False)
        return made

    def _ropes(self) -> Any:
        return rope.tables(self.raw, architectures.read(self.raw))

    def prepare(self) -> Any:
        """The parameters."""
        config = architectures.read(self.raw)
        params = layout.separate(init(self.raw, config, jax.random.key(0)), config)
        del params["rope"]
        return params

    def rows(self, made: Mapping[str, Any], prepared: Any) -> Iterator[Row]:
        want: dict[int, list[float]] = {}
        for run in self.runs():
            row: Row = {"part": "train", "mesh": run.mesh, "devices": max(1, math.prod(run.mesh.values())), "batch": run.batch}
            row |= {"accumulate": run.trainer.accumulate}
            try:
                row |= self._timed(run, made, prepared, want)
            except Exception as error:  # out of memory, say: the others go on
                row["failed"] = short(error)
            gc.collect()
            yield row

    def _timed(self, run: Run, made: Mapping[str, Any], params: Any, want: dict[int, list[float]]) -> Row:
        program, begin = made[run.key], made[f"begin {run.key}"]
        for one in (program, begin):
            if isinstance(one, str):
                return {"failed": one}
        placed = jax.tree.map(lambda x, place: jax.device_put(x, place), params, run.trainer.shardings()["params"])
        state, ropes = begin(placed), self._ropes()
        tokens = run.trainer.put(run.tokens(self.sizes["sequence"]))
        bits, seconds = [], []
        for number in range(TRAINED):
            start = time.perf_counter()
            state, loss = program(state, ropes, tokens)
            bits.append(float(loss))
            seconds += [time.perf_counter() - start] if number else []
        first = want.get(run.batch) if math.prod(run.mesh.values()) > 1 else want.setdefault(run.batch, bits)
        found = summary(seconds)
        rate = run.batch * self.sizes["sequence"] / found["s"]
        row = {**found, "tokens_per_s": rate, "bits": bits}
        if first is None:  # nothing of this batch ran on one device
            return row
        row["difference"] = apart = max(abs(b - w) / w for b, w in zip(bits, first, strict=True))
        if not apart <= self.bound:
            row["failed"] = f"other losses than on one device: {apart:.2e} apart, {self.bound:.0e} allowed"
        return row


def describe(training: Training) -> str:
    shapes = jax.eval_shape(lambda: init(training.raw, architectures.read(training.raw), jax.random.key(0)))
    billions = sum(x.size for x in jax.tree.leaves(shapes)) / 1e9
    s = training.sizes
    return (
        f"{billions:.3g} billion random parameters in float32, {s['layers']} layers of {s['dim']}, {s['experts']} experts of "
        f"{s['intermediate']}, {s['topk']} per token; AdamW, arithmetic in {jnp.dtype(training.dtype).name}, "
        f"sequences of {s['sequence']}"
    )
