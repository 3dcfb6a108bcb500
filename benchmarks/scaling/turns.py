"""Several processes that compile at the same time and measure one after the other: what a process says is one JSON a line."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

READY, DONE = "ready", "done"


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def wait() -> None:
    """In a process of `take`: until it is its turn. Ends it if there is nobody any more who could say so."""
    if not sys.stdin.readline():
        raise SystemExit("the process that shares out the turns has ended")


class Process:
    def __init__(self, name: str, command: Sequence[str], said: queue.Queue[tuple[str, Any]]):
        self.name, self.said = name, said
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                try:
                    self.said.put((self.name, json.loads(line)))
                except ValueError:  # a library's own words
                    print(line, end="", file=sys.stderr, flush=True)
        self.said.put((self.name, {DONE: self.process.wait()}))

    def go(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.process.stdin as line:  # it may have ended, which its last word says
            line.write("\n")


def take(commands: Mapping[str, Sequence[str]], heard: Callable[[str, Any], None], patience: float | None = None) -> dict[str, int]:
    """The status of each process. Each says READY when it has compiled, and measures in its turn, when all have or `patience`
    seconds are over; what it says is `heard` with its name, and with how many others compiled beside it, if any.
    """
    said: queue.Queue[tuple[str, Any]] = queue.Queue()
    start, statuses = time.monotonic(), {}
    waiting = {name: Process(name, command, said) for name, command in commands.items()}
    turn: Process | None = None
    try:
        while waiting:
            left = None if patience is None else max(0.0, patience - (time.monotonic() - start))
            late = left == 0.0
            if turn is None and (late or all(p.ready for p in waiting.values())):
                turn = next((p for p in waiting.values() if p.ready), None)
                if turn is not None:
                    turn.go()
            try:
                name, what = said.get(timeout=None if late else left)
            except queue.Empty:
                continue
            process = waiting[name]
            if DONE in what:
                statuses[name] = what[DONE]
                del waiting[name]
                turn = None if turn is process else turn
                continue
            process.ready = process.ready or READY in what
            beside = sum(not p.ready for p in waiting.values()) if turn is process else 0
            heard(name, {**what, **({"compiled_beside": beside} if beside else {})})
    finally:
        for process in waiting.values():
            process.process.kill()
    return statuses
