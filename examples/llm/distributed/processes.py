"""Several processes that have one mesh: how they join, meet, and end when one of them is lost."""

import contextlib
import functools
import itertools
import logging
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from examples.llm.distributed.link import Gone

log = logging.getLogger(__name__)


def join_processes(coordinator: str | None, processes: int | None, process: int | None) -> str:
    """`jax.distributed`, before anything asks for a device; on CPUs gloo carries what the processes send each other.

    The host of process 0.
    """
    if coordinator is None:
        return "localhost"
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, processes, process)
    return coordinator.rpartition(":")[0]


def meet(mesh: Mesh) -> None:
    """Let the devices of each axis, and of several, exchange something.

    Soon after they joined, for gloo has all processes come to their first exchange within 30 s. To later ones it lets them come
    when they do, one from reading weights or compiling long after the other.
    """
    axes = [name for name, size in mesh.shape.items() if size > 1]
    for names in itertools.chain.from_iterable(itertools.combinations(axes, n + 1) for n in range(len(axes))):
        total = functools.partial(jax.lax.psum, axis_name=names)
        spread = jax.shard_map(total, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)
        jax.block_until_ready(jax.jit(spread)(jnp.float32(1)))


def from_first(x: np.ndarray) -> np.ndarray:
    """uint8: what process 0 has here."""
    return np.asarray(multihost_utils.broadcast_one_to_all(x)).astype(np.uint8)


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """A process that loses another one within this ends."""
    try:
        yield
    except Gone as gone:
        leave(gone)


def leave(why: Exception) -> NoReturn:
    """End this process at once, with status 1: a step that waits for a process which is gone cannot be called off, and
    `jax.distributed` ends only when all do.
    """
    log.error("this process ends: %s", why)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
