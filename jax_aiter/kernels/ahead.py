"""Plans made ahead of time: many calls, several worker processes, picks up where an earlier run stopped."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol

from jax_aiter.core.config import config
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import CacheError, cache_root
from jax_aiter.kernels.recorded import Plans, Refused
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.store import NOWHERE, Location, aiter_location


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one call: "cached", "built", "refused" (by a rule or while recording) or "failed", and why."""

    spec: CallSpec
    status: str
    reason: str = ""


class Worker(Protocol):
    """A process that records; see `jax_aiter.kernels.process.worker`."""

    @property
    def alive(self) -> bool: ...

    def yields(self, by: int) -> None: ...

    def record(self, spec: CallSpec) -> tuple[dict[str, Any], str]:
        """What the plan cache keeps of a call, and the version that its entry is kept under."""
        ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Kind:
    """Kernels of one kind.

    refuse: the rule that refuses a call, None if it can be recorded. key: what tells the workers apart that calls need. start: the
    worker for a call.
    """

    plans: Plans
    refuse: Callable[[CallSpec], str | None]
    key: Callable[[CallSpec], Hashable]
    start: Callable[[CallSpec, Location, Path], Worker]


class Builders:
    """`jobs` threads with worker processes of their own, which live until the end of the context; what still waits then is dropped.

    nice: how much the workers let others go first, such as a process that takes the time of something meanwhile.
    """

    def __init__(self, kind: Kind, jobs: int, nice: int = 0) -> None:
        self._kind, self._nice = kind, nice
        self._settings = vars(config.settings)  # a block holds in the thread that opened it
        self._root = cache_root()
        self._location = aiter_location(self._root)
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="jax_aiter-build")
        self._mine = threading.local()
        self._workers: list[dict[Hashable, Worker]] = []

    def submit(self, spec: CallSpec) -> Future[Outcome]:
        """Record and compile one call as it is described."""
        return self._threads.submit(self._build, spec)

    def _build(self, spec: CallSpec) -> Outcome:
        with config(**self._settings):
            return self._outcome(spec)

    def _outcome(self, spec: CallSpec) -> Outcome:
        reason = self._kind.refuse(spec)
        if reason is not None:
            return Outcome(spec, "refused", reason)
        plans = self._kind.plans
        try:
            if plans.find(spec, self._root) is not None:
                return Outcome(spec, "cached")
            plans.find_or_build(spec, self._root, self._record)
        except Refused as refusal:
            return Outcome(spec, "refused", str(refusal))
        except (KernelBuildError, CacheError) as error:
            return Outcome(spec, "failed", str(error))
        return Outcome(spec, "built")

    def _record(self, spec: CallSpec) -> tuple[dict[str, Any], str]:
        if self._location is None:
            raise KernelBuildError(NOWHERE)
        if not hasattr(self._mine, "workers"):
            self._mine.workers = {}
            self._workers.append(self._mine.workers)
        key, workers = self._kind.key(spec), self._mine.workers
        if key not in workers or not workers[key].alive:
            workers[key] = self._kind.start(spec, self._location, self._root)
            workers[key].yields(self._nice)
        return workers[key].record(spec)

    def __enter__(self) -> Builders:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for workers in self._workers:
            for worker in workers.values():
                worker.close()


def build(kind: Kind, specs: Iterable[CallSpec], jobs: int, done: Callable[[Outcome], None]) -> list[Outcome]:
    """Record and compile every call that is not cached, with `jobs` worker processes; `done` is called after each."""
    lock = threading.Lock()

    def report(future: Future[Outcome]) -> None:
        if not future.cancelled() and future.exception() is None:
            with lock:
                done(future.result())

    with Builders(kind, jobs) as builders:
        futures = [builders.submit(spec) for spec in specs]
        for future in futures:
            future.add_done_callback(report)
        return [future.result() for future in as_completed(futures)]
