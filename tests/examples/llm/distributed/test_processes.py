"""Serving over two processes that `jax.distributed` joins, each with two CPU devices; gloo carries what they send."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest

from tests.examples.llm.distributed import models

ROOT = pathlib.Path(__file__).parents[4]


@pytest.mark.exhaustive
def test_two_processes():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = str(s.getsockname()[1])
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "tests.examples.llm.distributed.processes", port]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": env, "cwd": ROOT}
    ranks = [subprocess.Popen([*command, str(rank)], **pipes) for rank in range(2)]
    try:
        outputs = [p.communicate(timeout=240)[0] for p in ranks]
    finally:
        for p in ranks:
            p.kill()
    want = models.on_one(models.params())
    for rank, (p, out) in enumerate(zip(ranks, outputs, strict=True)):
        assert p.returncode == 0, out
        assert f"rank {rank}: 2 of 4 devices answer {want}" in out
