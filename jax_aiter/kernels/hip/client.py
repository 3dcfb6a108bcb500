"""Starts the workers that record HIP kernels and talks to them: one process per architecture and number of compute units."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.plans import EVERY_COMPILER, made_of, units
from jax_aiter.kernels.hip.worker import where
from jax_aiter.kernels.process import worker as processes
from jax_aiter.kernels.recorded import stored_answer
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.store import Location

#: a Python that has jax and Triton, whose wheel has the HIP headers, where this one has no Triton; as for Triton kernels.
PYTHON = "JAX_AITER_TRITON_PYTHON"
MAIN = "jax_aiter.kernels.hip.worker.main"
KILLED = 'Call again to start a new one, or use implementation="xla" for this call'


class Worker(processes.Worker):
    """The worker of an architecture and a number of compute units."""

    def __init__(self, arch: str, count: int, aiter: Location, root: Path) -> None:
        super().__init__(
            f"HIP kernel worker for {arch}",
            os.environ.get(PYTHON) or sys.executable,
            MAIN,
            [arch, str(count), where.text(aiter), str(root)],
            os.environ,
            contextlib.ExitStack(),
            python_remedy=f"set {PYTHON} to a Python that has jax, and triton, whose HIP headers are needed where there is no ROCm",
            killed=KILLED,
        )
        if "error" in self.hello:
            self.close()
            raise KernelBuildError(self.hello["error"])
        self.compiler: str = self.hello["compiler"]
        self._aiter = aiter

    def record(self, spec: CallSpec) -> tuple[dict[str, Any], str]:
        """What the plan cache keeps of a call, and under which version; KernelBuildError if the worker died, or failed."""
        answer = stored_answer(self.ask({"spec": spec.to_json()}), "AITER")
        return {**answer, "made_by": self.compiler, "sources": made_of(self._aiter, spec)}, EVERY_COMPILER


_workers = processes.Workers()
close_workers = _workers.close


def elsewhere() -> bool:
    """Whether another Python than this one compiles."""
    return bool(os.environ.get(PYTHON))


def worker(spec: CallSpec, aiter: Location, root: Path) -> Worker:
    """The living worker of this process for a call, started if there is none."""
    count = units(spec)
    return _workers.get((spec.arch, count, aiter, root), lambda: Worker(spec.arch, count, aiter, root))
