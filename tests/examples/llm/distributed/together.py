"""Processes of this machine that `jax.distributed` joins, each with CPU devices of its own."""

import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import httpx

ROOT = pathlib.Path(__file__).parents[4]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def start(commands: Sequence[Sequence[str]], devices: int, **pipes) -> list[subprocess.Popen]:
    """``python -m`` each of them, with so many devices."""
    env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    return [subprocess.Popen([sys.executable, "-m", *c], text=True, env=env, cwd=ROOT, **pipes) for c in commands]


def wait_for(url: str, processes: Sequence[subprocess.Popen], outputs: Sequence[pathlib.Path], seconds: float = 400) -> None:
    """Until a GET of `url` is answered."""
    end = time.monotonic() + seconds
    while True:
        try:
            httpx.get(url).raise_for_status()
            return
        except httpx.TransportError:
            alive = all(p.poll() is None for p in processes)
            assert alive, [path.read_text() for path in outputs]
            assert time.monotonic() < end, [path.read_text() for path in outputs]
            time.sleep(0.2)
