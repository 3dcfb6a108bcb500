"""Starts recording workers and talks to them: one process per target architecture, kept until this process ends."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.store import Location, files
from jax_aiter.kernels.triton.spec import CallSpec

MAIN = Path(__file__).parent / "worker" / "main.py"
INSTALL = 'pip install "jax_aiter[triton]"'


class Worker:
    """One worker process. `ask` is serialised; a dead worker is reported once and replaced by the next call."""

    def __init__(self, arch: str, aiter: Location, root: Path) -> None:
        self.arch = arch
        self._lock = threading.Lock()
        self._python = os.environ.get("JAX_AITER_TRITON_PYTHON") or sys.executable
        with contextlib.ExitStack() as resources:
            self._stderr = resources.enter_context(tempfile.TemporaryFile())
            sources, self._left_out = _sources(resources, aiter)
            self._process = self._start(resources, [arch, str(sources), str(root)])
            resources.callback(self._stop)
            hello = self._read()
            if "error" in hello:
                raise KernelBuildError(f"{hello['error']} (in {self._python}); {hello.get('remedy') or INSTALL}")
            self._resources = resources.pop_all()  # all is well: they live until `close`
        self.triton: str = hello["triton"]

    def _start(self, resources: contextlib.ExitStack, arguments: list[str]) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            # The cache keeps the results; Triton's own would keep every intermediate form.
            "TRITON_CACHE_DIR": resources.enter_context(tempfile.TemporaryDirectory(prefix="jax_aiter-triton-")),
            "TRITON_DISABLE_LINE_INFO": "1",  # line tables would put this machine's paths into the code objects
        }
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._stderr}
        try:
            return subprocess.Popen([self._python, str(MAIN), *arguments], env=environment, text=True, **pipes)
        except OSError as error:
            raise KernelBuildError(
                f"cannot start the kernel worker with {self._python} ({error.strerror}); set JAX_AITER_TRITON_PYTHON "
                "to a Python that has torch and triton"
            ) from error

    def _stop(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what was buffered for a dead worker is lost
                    stream.close()
        self._process.terminate()
        self._process.wait()

    def ask(self, spec: CallSpec) -> dict[str, Any]:
        """The worker's answer for one call; KernelBuildError if it died."""
        with self._lock:
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(json.dumps({"spec": spec.to_json()}) + "\n")
                self._process.stdin.flush()
            except (BrokenPipeError, ValueError):
                raise self._died() from None
            try:
                answer = self._read()
            except BaseException:
                self.close()  # an unread answer must not be taken for the next call's
                raise
        if not answer["ok"] and self._left_out:
            listed = f"{len(self._left_out)} files of AITER that no release has were left out, the first is {self._left_out[0]}"
            answer["error"] += f" ({listed}; {files.OPT_IN})"
        return answer

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        return json.loads(line)

    def _died(self) -> KernelBuildError:
        code = self._process.wait()
        self._stderr.seek(0)
        tail = self._stderr.read().decode(errors="replace").strip().splitlines()[-5:]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        said = f"; its last words: {' | '.join(tail)}" if tail else ""
        return KernelBuildError(
            f"the kernel worker for {self.arch} {how}{said}. Call again to start a new one; if it was killed for lack "
            "of memory, build the plans ahead with `jax-aiter kernels build --jobs 1`"
        )

    def close(self) -> None:
        """End the process and remove its temporary files; may be called twice."""
        self._resources.close()


def stored_answer(answer: dict[str, Any], triton: str) -> tuple[dict[str, Any], str]:
    """What the plan cache keeps of an answer, and Triton's version; KernelBuildError if the worker failed."""
    if answer["ok"]:
        return {"record": answer["record"]}, triton
    if answer["refused"]:
        return {"refused": answer["error"]}, triton
    if answer.get("cache"):  # the worker could not store what it compiled; the text names the remedy
        raise KernelBuildError(answer["error"])
    raise KernelBuildError(
        f'recording failed in AITER or Triton {triton}: {answer["error"]}. Use implementation="xla" for this call'
    )


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


_workers: dict[tuple[str, Location, Path, int], Worker] = {}
_guard = threading.Lock()


def worker(arch: str, aiter: Location, root: Path) -> Worker:
    """The living worker of this process for `arch`, started if there is none (a forked child starts its own)."""
    key = (arch, aiter, root, os.getpid())
    with _guard:
        found = _workers.get(key)
        if found is None or not found.alive:
            if found is not None:
                found.close()
            found = _workers[key] = Worker(arch, aiter, root)
        return found


@atexit.register
def close_workers() -> None:
    """End this process's workers."""
    with _guard:
        for key in [key for key in _workers if key[3] == os.getpid()]:
            _workers.pop(key).close()
