"""Process 0 of an engine over several: it has the engine, and says each step to the others before it runs here.

Steps are said over connections of their own and not by a collective, with which the others could not wait for hours.
"""

import atexit
import hashlib
import multiprocessing
import secrets
from collections.abc import Callable
from multiprocessing.connection import Connection, Listener
from typing import Any

import jax
import numpy as np

from examples.layers.parts import Batch
from examples.llm.distributed.link import Gone, Kind, Link
from examples.llm.distributed.processes import from_first
from examples.llm.distributed.steps import to_bytes
from examples.llm.serving.fault import Fault
from examples.llm.serving.settings import Settings

KEY_BYTES = 32
PATIENCE = 60.0


class Leader:
    """host: where the others reach this process. They must connect before this returns, with a key that nobody else has.

    patience: seconds of another process's silence, or of a step, after which it is given up. fault: that this happened, or that one
    ended or failed. When this process ends, so do they.
    """

    def __init__(self, host: str, patience: float = PATIENCE):
        self.fault, key = Fault(), secrets.token_bytes(KEY_BYTES)
        connections: list[Connection] = []
        with Listener((host, 0), backlog=jax.process_count(), authkey=key) as listener:
            from_first(np.frombuffer(int(listener.address[1]).to_bytes(2, "big") + key, np.uint8))
            while len(connections) < jax.process_count() - 1:
                try:
                    connections.append(listener.accept())
                except (multiprocessing.AuthenticationError, EOFError, ConnectionError):
                    continue  # a stranger
        self.links = [self._link(connection, patience) for connection in connections]
        self._said: set[bytes] = set()
        atexit.register(self.end)  # before what `jax.distributed` registered, which waits for the others to end

    def _link(self, connection: Connection, patience: float) -> Link:
        name = f"process {int.from_bytes(connection.recv_bytes(), 'big')}"
        return Link(connection, name, patience, lambda gone: self.fault.happened(gone or Gone(f"{name} has ended")))

    def agree(self, what: str) -> None:
        """ValueError in every process where one of them says another `what` than this one."""
        digest = hashlib.sha256(what.encode()).digest()
        others = [link.other for link in self.links if link.hear(Kind.SETTINGS)[1] != digest]
        for link in self.links:
            link.say(Kind.SETTINGS, ", ".join(others).encode())
        refuse(others, what)

    def steps(self, step: Callable[..., Any], settings: Settings) -> Callable[..., Any]:
        """`step`, which the others run too. What is compiled first may take its time; what was run before, the others' patience."""

        def said(params: Any, config: Any, tokens: Any, batch: Batch, caches: Any, rows: Any) -> Any:
            message = to_bytes(settings, tokens, batch, rows)
            for link in self.links:
                link.say(Kind.STEP, message, soon=message[:4] in self._said)
            self._said.add(message[:4])
            return step(params, config, tokens, batch, caches, rows)

        return said

    def end(self) -> None:
        for link in self.links:
            link.end()


def refuse(others: list[str], what: str) -> None:
    if others:
        raise ValueError(f"{', '.join(others)}: another model or other settings than process 0's; here: {what}")
