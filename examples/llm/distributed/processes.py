"""One engine over several processes: the first has it, the others run the steps that it says, each on its own devices.

Steps are said over connections of their own and not by a collective, which would time out while nobody asks for anything.
"""

import atexit
import hashlib
import multiprocessing
import secrets
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from examples.layers.parts import Batch
from examples.llm.serving.runner import empty
from examples.llm.serving.settings import Settings, Shape

KEY_BYTES = 32


def join_processes(coordinator: str | None, processes: int | None, process: int | None) -> str:
    """`jax.distributed`, before anything asks for a device; on CPUs gloo carries what the processes send each other.

    The host of process 0.
    """
    if coordinator is None:
        return "localhost"
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, processes, process)
    return coordinator.rpartition(":")[0]


def agree(what: str) -> None:
    """ValueError in every process where one of them says another `what` than the first."""
    mine = np.frombuffer(hashlib.sha256(what.encode()).digest(), np.uint8)
    said = np.asarray(multihost_utils.process_allgather(mine)).reshape(-1, mine.size)
    others = [int(i) for i in np.flatnonzero((said != said[0]).any(1))]
    if others:
        raise ValueError(f"processes {others} serve another model or with other settings than process 0; here: {what}")


class Leader:
    """Of process 0: `step` is that of the program, said to all other processes before it runs here.

    host: where the others reach this process. They must connect before this returns, with a key that nobody else has. When this
    process ends, so do they.
    """

    def __init__(self, step: Callable[..., Any], settings: Settings, host: str):
        self._step, self._settings, key = step, settings, secrets.token_bytes(KEY_BYTES)
        self.others: list[Connection] = []
        with Listener((host, 0), backlog=jax.process_count(), authkey=key) as listener:
            _from_first(np.frombuffer(int(listener.address[1]).to_bytes(2, "big") + key, np.uint8))
            while len(self.others) < jax.process_count() - 1:
                try:
                    self.others.append(listener.accept())
                except (multiprocessing.AuthenticationError, EOFError, ConnectionError):
                    continue  # a stranger
        atexit.register(self.close)  # before what `jax.distributed` registered, which waits for the others to end

    def step(self, params: Any, config: Any, tokens: Any, batch: Batch, caches: Any, rows: Any) -> Any:
        said = to_bytes(self._settings, tokens, batch, rows)
        for other in self.others:
            other.send_bytes(said)
        return self._step(params, config, tokens, batch, caches, rows)

    def close(self) -> None:
        for other in self.others:
            other.close()


def follow(step: Callable[..., Any], params: Any, config: Any, caches: list[Any], settings: Settings, host: str) -> int:
    """Of every other process: run what the first one says until it ends; how many steps that were."""
    found, steps = _from_first(np.zeros(2 + KEY_BYTES, np.uint8)).tobytes(), 0
    with Client((host, int.from_bytes(found[:2], "big")), authkey=found[2:]) as first:
        while True:
            try:
                said = first.recv_bytes()
            except (EOFError, ConnectionError):
                return steps
            _, caches = step(params, config, *from_bytes(settings, said, caches))
            steps += 1


def to_bytes(settings: Settings, tokens: Any, batch: Batch, rows: Any) -> bytes:
    """A step's int32 arrays behind the number of its shape, of those of `settings`."""
    shape = Shape(len(tokens), len(batch.context_lens), batch.tables.shape[1], batch.cu_seqlens is None)
    arrays = jax.tree.leaves((tokens, batch, rows))
    return np.concatenate([[settings.shapes.index(shape)], *(np.asarray(x).ravel() for x in arrays)]).astype(np.int32).tobytes()


def from_bytes(settings: Settings, said: bytes, caches: Any) -> tuple[Any, Batch, Any, Any]:
    """What a step takes, with the caches where they stand among it."""
    numbers = np.frombuffer(said, np.int32)
    shape = settings.shapes[numbers[0]]
    like, tree = jax.tree.flatten((*empty(shape), np.zeros(shape.sequences, np.int32)))
    parts = np.split(numbers[1:], np.cumsum([x.size for x in like])[:-1])
    tokens, batch, rows = jax.tree.unflatten(tree, [p.reshape(x.shape) for p, x in zip(parts, like, strict=True)])
    return tokens, batch, caches, rows


def _from_first(x: np.ndarray) -> np.ndarray:
    return np.asarray(multihost_utils.broadcast_one_to_all(x)).astype(np.uint8)
