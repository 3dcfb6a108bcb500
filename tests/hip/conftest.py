"""A fresh plan cache, and a worker's Python that is a script."""

import stat
import sys

import pytest

from jax_aiter.core.config import config
from jax_aiter.kernels.cache import canonical, digest, write_entry
from jax_aiter.kernels.hip import client
from jax_aiter.kernels.manifest import LANDMARK, Fact
from jax_aiter.kernels.store.location import UNVERIFIED, entry, listing


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A cache with enough of AITER for a worker to be started, and no plans."""
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_AITER_SOURCE", raising=False)  # of processes that a test starts
    monkeypatch.setattr("jax_aiter.kernels.store.location.installed", lambda: None)
    root = tmp_path / "cache"
    listed = {LANDMARK: list(Fact.of(b""))}
    identity = UNVERIFIED + digest(canonical(listed))[:32]
    path = root / "aiter" / identity / LANDMARK
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    write_entry(listing(root, identity), listed)
    write_entry(entry(root), {"identity": identity})
    with config(source=None):
        yield root


@pytest.fixture
def worker_python(tmp_path, monkeypatch):
    """Makes the worker's Python a shell script; it sees "$PYTHON", the one that runs the tests."""

    def use(script: str):
        path = tmp_path / "python"
        path.write_text(f'#!/bin/sh\nPYTHON="{sys.executable}"\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv(client.PYTHON, str(path))

    yield use
    client.close_workers()
