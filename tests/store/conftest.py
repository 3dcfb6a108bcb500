"""A made-up AITER of a few files with its own manifest, and an empty cache."""

import pytest

from jax_aiter.core import select
from jax_aiter.kernels.asm import provider, tables, tuned
from jax_aiter.kernels.manifest import LANDMARK, Fact
from jax_aiter.kernels.store import add, files
from jax_aiter.kernels.triton import client, plans

FILES = {
    LANDMARK: b"# triton ops\n",
    "aiter/ops/triton/norm.py": b"def rms_norm(): ...\n",
    "aiter/ops/triton/configs/gemm.json": b"{}",
    "aiter/configs/tuned.csv": b"a,b\n",
    "hsa/gfx942/fmoe.co": bytes(range(256)),
    "hsa/gfx950/fmoe.csv": b"name,file\n",
}
UNUSED = {"README.md": b"hello", "hsa/gfx1250/other.co": b"x", "aiter/mla.py": b"import torch\n"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    path = tmp_path / "deep/enough/that/a/way/up/ends/in/the/tests/own/folder/cache"
    monkeypatch.setenv("JAX_AITER_CACHE", str(path))
    return path


@pytest.fixture
def hashes(monkeypatch):
    known = {name: Fact.of(data) for name, data in FILES.items()}
    for module in (add, files):
        monkeypatch.setattr(module, "manifest", lambda: known)
    return known


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    for name, data in {**FILES, **UNUSED}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture
def afresh(monkeypatch):
    """As in a process that has read nothing yet and has said nothing."""
    monkeypatch.delenv("JAX_AITER_TRITON_PYTHON", raising=False)
    monkeypatch.setattr(select, "_warned", set())
    for cached in (tables._kernels, tables._code, tuned._read, tuned._tuned, provider._remembered, plans._doubt):
        cached.cache_clear()
    yield
    client.close_workers()


@pytest.fixture
def no_triton(afresh, monkeypatch):
    """Nothing to record a plan with: what is not in the cache is refused without waiting for a compiler."""
    monkeypatch.setenv("JAX_AITER_TRITON_PYTHON", "/nowhere/python")
