"""Every other process of an engine over several: it runs the steps that process 0 says, on its own devices."""

import atexit
import hashlib
import threading
from collections.abc import Callable
from multiprocessing.connection import Client
from typing import Any

import jax
import numpy as np

from examples.llm.distributed.leader import KEY_BYTES, PATIENCE, refuse
from examples.llm.distributed.link import Gone, Kind, Link
from examples.llm.distributed.processes import from_first, leave
from examples.llm.distributed.steps import from_bytes
from examples.llm.serving.fault import Fault
from examples.llm.serving.settings import Settings

GRACE = 5.0  # seconds for a step that was under way when process 0 went


class Follower:
    """host: of process 0, which makes a `Leader` now. patience: as that has it.

    When process 0 is lost, this process ends: by `Gone` where it waits for the next step, and where it is amid one that waits for
    process 0, without more ado.
    """

    def __init__(self, host: str, patience: float = PATIENCE):
        found = from_first(np.zeros(2 + KEY_BYTES, np.uint8)).tobytes()
        connection = Client((host, int.from_bytes(found[:2], "big")), authkey=found[2:])
        connection.send_bytes(jax.process_index().to_bytes(4, "big"))
        self._fault, self._amid = Fault(), threading.Event()
        self._link = Link(connection, "process 0", patience, self._over)
        atexit.register(self._link.end)

    def agree(self, what: str) -> None:
        """ValueError in every process where one of them says another `what` than process 0."""
        self._link.say(Kind.SETTINGS, hashlib.sha256(what.encode()).digest())
        others = self._link.hear(Kind.SETTINGS)[1].decode()
        refuse(others.split(", ") if others else [], what)

    def follow(self, step: Callable[..., Any], params: Any, config: Any, caches: list[Any], settings: Settings) -> int:
        """Run what process 0 says until it ends; how many steps that were. Raises `Gone` where it ends before it says so."""
        steps = 0
        while True:
            kind, said = self._link.hear(Kind.STEP, Kind.END)
            if kind == Kind.END:
                return steps
            self._amid.set()
            try:
                logits, caches = step(params, config, *from_bytes(settings, said, caches))
                jax.block_until_ready(logits)
            except Exception as error:
                found = self._fault.behind(error)
                if found is error:
                    self._link.say(Kind.FAILED, repr(error).encode())
                raise found from error
            self._amid.clear()
            steps += 1
            self._link.say(Kind.DONE)

    def _over(self, gone: Gone | None) -> None:
        gone = gone or Gone("process 0 has ended while a step was under way")
        self._fault.happened(gone)
        if self._amid.is_set():
            threading.Event().wait(GRACE)
            if self._amid.is_set():
                leave(gone)
