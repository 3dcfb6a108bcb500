"""Builds plans ahead of time: many calls, several workers, picks up where an earlier run stopped."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import CacheError, cache_root
from jax_aiter.kernels.spec import FP8, CallSpec
from jax_aiter.kernels.store import aiter_location
from jax_aiter.kernels.triton import client, plans
from jax_aiter.kernels.triton.adapters import adapters, compositions
from jax_aiter.kernels.triton.provider import chosen


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one call: "cached", "built", "refused" (by a rule or while recording) or "failed", and why."""

    spec: CallSpec
    status: str
    reason: str = ""


def read_calls(path: Path) -> list[dict[str, Any]]:
    """A shapes file: a JSON list of {"op", "operands": {name: [dtype, *shape]}, "params": {...}}; "fp8" is the target's."""
    calls = json.loads(path.read_text())
    if not isinstance(calls, list):
        raise ValueError(f"{path}: expected a JSON list of calls, got {type(calls).__name__}")
    for number, call in enumerate(calls):
        if not isinstance(call, dict) or not {"op", "operands"} <= call.keys():
            raise ValueError(f'{path}: call {number} needs "op" and "operands", got {call!r}')
    return calls


def spec_of(call: dict[str, Any], arch: str) -> CallSpec:
    """The description of one call of a shapes file; its results come from the op's own abstract evaluation."""
    import jax
    import jax.numpy as jnp

    from jax_aiter.core.config import config
    from jax_aiter.kernels.provider import Call, Target
    from jax_aiter.ops.catalogue import all_ops, inferred

    def dtype(name: str):
        return jnp.dtype(FP8[arch] if name == "fp8" else name)

    def param(name: str, value: Any) -> Any:
        return dtype(value) if name.endswith("dtype") and isinstance(value, str) else value

    ops = all_ops()
    if call["op"] not in ops:
        raise ValueError(f"op {call['op']!r} is not one of {sorted(ops)}")
    op = ops[call["op"]]
    given = {name: jax.ShapeDtypeStruct(tuple(shape), dtype(kind)) for name, (kind, *shape) in call["operands"].items()}
    operands = {name: given[name] for name in op.operands if name in given}
    params = {name: param(name, value) for name, value in call.get("params", {}).items()}
    with config(arch=arch):
        params, results = inferred(op, operands, params)
    platform = "cuda" if arch.startswith("sm_") else "rocm"
    return CallSpec.of(Call(op.name, Target(platform, arch), operands, params, tuple(results)))


def build_all(specs: Iterable[CallSpec], jobs: int, done: Callable[[Outcome], None]) -> list[Outcome]:
    """Record and compile every call that is not cached, with the tile that it takes; `jobs`, `done` as in `build_tiles`."""
    wanted = []
    for spec in specs:
        composition = compositions().get(spec.op)
        parts = () if composition is None or composition.refuse(spec) else composition.parts(spec).values()
        wanted += [part if _refusal(part) else chosen(part)[0] for part in parts or (spec,)]
    return build_tiles(wanted, jobs, done)


def build_tiles(specs: Iterable[CallSpec], jobs: int, done: Callable[[Outcome], None]) -> list[Outcome]:
    """Record and compile these calls with the tiles they name, with `jobs` worker processes; `done` is called after each."""
    lock = threading.Lock()

    def report(future: Future[Outcome]) -> None:
        if not future.cancelled() and future.exception() is None:
            with lock:
                done(future.result())

    with Builders(jobs) as builders:
        futures = [builders.submit(spec) for spec in specs]
        for future in futures:
            future.add_done_callback(report)
        return [future.result() for future in as_completed(futures)]


class Builders:
    """`jobs` threads with a worker process each, which live until the end of the context; what still waits then is dropped.

    nice: how much the workers let others go first, such as a process that takes the time of something meanwhile.
    """

    def __init__(self, jobs: int, nice: int = 0) -> None:
        self._nice = nice
        self._root = cache_root()
        self._location = aiter_location(self._root)
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="jax_aiter-build")
        self._mine = threading.local()
        self._workers: list[dict[str, client.Worker]] = []

    def submit(self, spec: CallSpec) -> Future[Outcome]:
        """Record and compile one call with the tile it names."""
        return self._threads.submit(self._build, spec)

    def _build(self, spec: CallSpec) -> Outcome:
        if not hasattr(self._mine, "workers"):
            self._mine.workers = {}
            self._workers.append(self._mine.workers)
        return _one(spec, self._root, self._location, self._mine.workers, self._nice)

    def __enter__(self) -> Builders:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for workers in self._workers:
            for worker in workers.values():
                worker.close()


def _one(spec: CallSpec, root: Path, location, workers: dict[str, client.Worker], nice: int = 0) -> Outcome:
    reason = _refusal(spec)
    if reason is not None:
        return Outcome(spec, "refused", reason)

    def build(wanted: CallSpec):
        if location is None:
            raise KernelBuildError("AITER's files were not found; run `jax-aiter kernels add PATH` first")
        if spec.arch not in workers or not workers[spec.arch].alive:
            workers[spec.arch] = client.Worker(spec.arch, location, root)
            workers[spec.arch].yields(nice)
        return workers[spec.arch].record(wanted)

    try:
        if plans.find(spec, root) is not None:
            return Outcome(spec, "cached")
        plans.find_or_build(spec, root, build)
    except plans.Refused as refusal:
        return Outcome(spec, "refused", str(refusal))
    except (KernelBuildError, CacheError) as error:
        return Outcome(spec, "failed", str(error))
    return Outcome(spec, "built")


def _refusal(spec: CallSpec) -> str | None:
    adapter = adapters().get(spec.op)
    return f"AITER has no Triton kernel for {spec.op}" if adapter is None else adapter.refuse(spec)


def own_cases() -> list[dict[str, Any]]:
    """Every case of every op that has Triton kernels, as calls of a shapes file."""
    from jax_aiter.ops.catalogue import all_ops

    ops = all_ops()
    calls = []
    for name in sorted(adapters().keys() & ops.keys()):
        for case in ops[name].cases():
            operands = {key: [_portable(array.struct.dtype.name), *array.shape] for key, array in case.operands.items()}
            params = {key: _portable(getattr(value, "name", value)) for key, value in case.params.items()}
            calls.append({"op": name, "operands": operands, "params": params})
    return calls


def _portable(value: Any) -> Any:
    return "fp8" if value in FP8.values() else value
