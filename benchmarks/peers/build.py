"""Builds ahead what the rows' kernels need: every form of ours is lowered for the arch, by several processes, on no device.

A process lowers its share of the rows, each for the GPU named, as a program on that GPU would: the same choice by the same tuning
file. What a lowering needs of kernels is built then and kept in the cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import jax

from jax_aiter.cli.bench.measure import short, structs
from jax_aiter.cli.bench.row import Row
from jax_aiter.core.config import config

ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def in_processes(module: str, jobs: int, arch: str, *options: str) -> int:
    """Starts `jobs` processes of a module's --build that lower a share each; the number of those that failed."""
    start = time.monotonic()
    command = [sys.executable, "-m", module, "--build", "--arch", arch, *options]
    environment = {**os.environ, **ENVIRONMENT}
    running = [subprocess.Popen([*command, "--share", f"{i}/{jobs}"], env=environment) for i in range(jobs)]
    failed = sum(process.wait() != 0 for process in running)
    print(f"built for {arch} by {jobs} processes in {time.monotonic() - start:.0f} s, {failed} of them failed", flush=True)
    return failed


def share(rows: list[Row], arch: str, which: str) -> int:
    """Lowers every n-th program of ours from the i-th on ("i/n"); the number of those that no kernel could be built for."""
    number, of = map(int, which.split("/"))
    platform = "cuda" if arch.startswith("sm_") else "rocm"
    # A row's two programs mostly want the same plans: apart, so that no process waits for what another one builds.
    programs = [(row, name, row.forms(True)[name]) for name in ("auto", "triton") for row in rows]
    failed = 0
    for row, name, peer in programs[number::of]:
        start = time.monotonic()
        try:
            with config(arch=arch):
                jax.jit(peer.call).trace(structs(row, peer)).lower(lowering_platforms=(platform,))
            said = "lowered"
        except Exception as error:  # the table prints the same reason where it wanted to time this program
            said, failed = short(error), failed + (name == "auto")
        print(f"{time.monotonic() - start:6.1f} s {row.name}, {name}: {said}", flush=True)
    return failed
