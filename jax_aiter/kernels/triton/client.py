"""Starts the workers that record Triton kernels and talks to them: one process per target architecture."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.process import worker as processes
from jax_aiter.kernels.recorded import stored_answer
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.store import Location, files

MAIN = "jax_aiter.kernels.triton.worker.main"
INSTALL = 'pip install "jax_aiter[triton]"'
PYTHON_REMEDY = "set JAX_AITER_TRITON_PYTHON to a Python that has torch and triton"
KILLED = (
    "Call again to start a new one; if it was killed for lack of memory, build the plans ahead with "
    "`jax-aiter kernels build --jobs 1`"
)


class Worker(processes.Worker):
    """The worker of an architecture, with a copy of AITER's Triton half."""

    def __init__(self, arch: str, aiter: Location, root: Path) -> None:
        python = os.environ.get("JAX_AITER_TRITON_PYTHON") or sys.executable
        with contextlib.ExitStack() as resources:
            sources, self._left_out = _sources(resources, aiter)
            environment = {
                **os.environ,
                # The cache keeps the results; Triton's own would keep every intermediate form.
                "TRITON_CACHE_DIR": resources.enter_context(tempfile.TemporaryDirectory(prefix="jax_aiter-triton-")),
                "TRITON_DISABLE_LINE_INFO": "1",  # line tables would put this machine's paths into the code objects
            }
            super().__init__(
                f"kernel worker for {arch}",
                python,
                MAIN,
                [arch, str(sources), str(root)],
                environment,
                resources.pop_all(),
                python_remedy=PYTHON_REMEDY,
                killed=KILLED,
            )
        if "error" in self.hello:
            self.close()
            raise KernelBuildError(f"{self.hello['error']} (in {python}); {self.hello.get('remedy') or INSTALL}")
        self.triton: str = self.hello["triton"]

    def record(self, spec: CallSpec) -> tuple[dict[str, Any], str]:
        """What the plan cache keeps of a call, and Triton's version; KernelBuildError if the worker died, or failed."""
        answer = self.ask({"spec": spec.to_json()})
        if not answer["ok"] and self._left_out:
            listed = f"{len(self._left_out)} files of AITER that no release has were left out, the first is {self._left_out[0]}"
            answer["error"] += f" ({listed}; {files.OPT_IN})"
        return stored_answer(answer, f"AITER or Triton {self.triton}"), self.triton


def _sources(resources: contextlib.ExitStack, aiter: Location) -> tuple[Path, list[str]]:
    """A private folder with AITER's Triton half, every file compared as it was read.

    Python imports, Triton's reading of sources and AITER's reading of its configurations all go by paths, and at any later time;
    beside the files in the cache there may also be compiled ones that Python would prefer. Files that no release has are left out:
    their names come second.
    """
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="jax_aiter-sources-")))
    try:
        left_out = files.copy(aiter, folder, files.triton_names(aiter))
    except OSError as error:
        raise KernelBuildError(f"{folder}: {error.strerror}; AITER's Triton sources are copied there for the worker") from error
    return folder, left_out


_workers = processes.Workers()
close_workers = _workers.close


def worker(arch: str, aiter: Location, root: Path) -> Worker:
    """The living worker of this process for `arch`, started if there is none."""
    return _workers.get((arch, aiter, root), lambda: Worker(arch, aiter, root))
