"""AITER's files as registered in the user's cache, a fresh plan cache beside it, and a worker's Python."""

import importlib.util
import os
import stat
import sys

import pytest

from jax_aiter.core.config import config
from jax_aiter.kernels.cache import cache_root, canonical, digest, write_entry
from jax_aiter.kernels.manifest import LANDMARK, Fact
from jax_aiter.kernels.store.location import UNVERIFIED, entry, listing
from jax_aiter.kernels.triton import client
from tests.needs import needs_aiter


def has_triton() -> bool:
    return "JAX_AITER_TRITON_PYTHON" in os.environ or None not in map(importlib.util.find_spec, ("torch", "triton"))


@pytest.fixture(scope="session")
def _own_root(tmp_path_factory):
    """A cache whose plans are made anew, on compiled kernels that are shared with the user's cache (they cost seconds)."""
    needs_aiter("aiter")
    if not has_triton():
        pytest.skip("triton is not installed, so AITER's kernels cannot be recorded")
    root, real = tmp_path_factory.mktemp("plans"), cache_root()
    for name in ("aiter", "kernels", "code"):
        (real / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(real / name)
    yield root
    client.close_workers()


@pytest.fixture
def recording_root(_own_root, monkeypatch):
    monkeypatch.setenv("JAX_AITER_CACHE", str(_own_root))
    return _own_root


@pytest.fixture
def empty_root(tmp_path, monkeypatch):
    """A cache without AITER and without plans, where AITER is nowhere else either."""
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_AITER_SOURCE", raising=False)  # of processes that a test starts
    monkeypatch.setattr("jax_aiter.kernels.store.location.installed", lambda: None)
    with config(source=None):
        yield tmp_path / "cache"


@pytest.fixture
def aiter_present(empty_root):
    """Enough of AITER for a worker to be started on rms_norm."""
    contents = {LANDMARK: b"", "aiter/ops/triton/normalization/rmsnorm.py": b"def rms_norm(): ...\n"}
    listed = {name: list(Fact.of(data)) for name, data in contents.items()}
    identity = UNVERIFIED + digest(canonical(listed))[:32]
    for name, data in contents.items():
        path = empty_root / "aiter" / identity / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    write_entry(listing(empty_root, identity), listed)
    write_entry(entry(empty_root), {"identity": identity})
    return empty_root


@pytest.fixture
def worker_python(tmp_path, monkeypatch):
    """Makes the worker's Python a shell script; it sees "$PYTHON", the one that runs the tests."""

    def use(script: str):
        path = tmp_path / "python"
        path.write_text(f'#!/bin/sh\nPYTHON="{sys.executable}"\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("JAX_AITER_TRITON_PYTHON", str(path))

    yield use
    client.close_workers()
