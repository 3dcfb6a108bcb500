"""Worker processes that record what AITER's own host code would launch: one request, one answer, a line of JSON each.

A worker lives until this process ends. What kills it is told to the call at hand; the next call starts another.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_aiter.core.errors import KernelBuildError

SCRIPT = Path(__file__).parent / "worker_main.py"


class Worker:
    """One worker process. `ask` is serialised; a dead worker is reported once and replaced by the next call.

    what: how errors call it. main: the module that it runs, as `worker_main` says. resources: what it needs as long as it lives,
    closed with it. python_remedy: what to do if `python` does not run. killed: what to do if it dies.
    """

    def __init__(
        self,
        what: str,
        python: str,
        main: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        resources: contextlib.ExitStack,
        *,
        python_remedy: str,
        killed: str,
    ) -> None:
        self._what, self._killed, self._lock = what, killed, threading.Lock()
        with resources:
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  closed with the other resources
            resources.callback(self._stderr.close)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._stderr}
            try:
                self._process = subprocess.Popen([python, str(SCRIPT), main, *arguments], env=dict(environment), text=True, **pipes)
            except OSError as error:
                raise KernelBuildError(f"cannot start the {what} with {python} ({error.strerror}); {python_remedy}") from error
            resources.callback(self._stop)
            self.hello: dict[str, Any] = self._read()
            self._resources = resources.pop_all()  # all is well: they live until `close`

    def yields(self, by: int) -> None:
        """Lets other processes go first: `by` is added to its niceness."""
        with contextlib.suppress(ProcessLookupError):  # a dead one is found out when it is asked
            os.setpriority(os.PRIO_PROCESS, self._process.pid, by)

    def _stop(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what was buffered for a dead worker is lost
                    stream.close()
        self._process.terminate()
        self._process.wait()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The worker's answer; KernelBuildError if it died."""
        with self._lock:
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            except (BrokenPipeError, ValueError):
                raise self._died() from None
            try:
                answer = self._read()
            except BaseException:
                self.close()  # an unread answer must not be taken for the next call's
                raise
            if answer.get("last"):  # it says itself that it cannot go on
                self.close()
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
        return KernelBuildError(f"the {self._what} {how}{said}. {self._killed}")

    def close(self) -> None:
        """End the process and remove its temporary files; may be called twice."""
        self._resources.close()


class Workers:
    """The living workers of this process, by what tells them apart (a forked child starts its own)."""

    def __init__(self) -> None:
        self._found: dict[tuple[Hashable, int], Any] = {}
        self._guard = threading.Lock()
        atexit.register(self.close)

    def get(self, key: Hashable, start: Callable[[], Any]) -> Any:
        """The living worker for `key`, started if there is none."""
        with self._guard:
            found = self._found.get((key, os.getpid()))
            if found is None or not found.alive:
                if found is not None:
                    found.close()
                found = self._found[key, os.getpid()] = start()
            return found

    def __len__(self) -> int:
        return len(self._found)

    def close(self) -> None:
        """End this process's workers."""
        with self._guard:
            for key in [key for key in self._found if key[1] == os.getpid()]:
                self._found.pop(key).close()
