"""Processes of this machine that `jax.distributed` joins, each with CPU devices of its own."""

import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

ROOT = pathlib.Path(__file__).parents[4]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def start(command: Sequence[str], devices: int, environment: Mapping[str, str] = MappingProxyType({}), **pipes) -> subprocess.Popen:
    """``python -m`` it, with so many CPU devices; or as `environment` says."""
    env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu", **environment}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    return subprocess.Popen([sys.executable, "-m", *command], text=True, env=env, cwd=ROOT, **pipes)


def answers(
    sizes: str, devices: int, late: float, environments: Sequence[Mapping[str, str]]
) -> tuple[list[subprocess.Popen], list[str]]:
    """`processes` on a mesh, in a process for each environment: those, ended, and what each wrote."""
    port, both = str(free_port()), {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = ["tests.examples.llm.distributed.processes", port]
    ranks = [start([*command, str(i), sizes, str(late)], devices, env, **both) for i, env in enumerate(environments)]
    try:
        return ranks, [p.communicate(timeout=400)[0] for p in ranks]
    finally:
        for p in ranks:
            p.kill()
            p.wait()
