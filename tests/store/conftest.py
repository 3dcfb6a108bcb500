"""A made-up AITER of a few files with its own manifest, and an empty cache."""

from pathlib import Path

import pytest

from jax_aiter.bind import select
from jax_aiter.kernels import known, known_build
from jax_aiter.kernels.asm import provider, tables
from jax_aiter.kernels.known import AITER_COMMIT, Release, file_hash
from jax_aiter.kernels.manifest import LANDMARK, Fact, manifest
from jax_aiter.kernels.tables import tuned
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
def root(tmp_path, monkeypatch, no_package):
    path = tmp_path / "deep/enough/that/a/way/up/ends/in/the/tests/own/folder/cache"
    monkeypatch.setenv("JAX_AITER_CACHE", str(path))
    return path


def known_list(trees: dict[str, dict[str, bytes]]) -> bytes:
    """A list of known files as the package ships one, of releases by name (a commit's name is the commit)."""
    sizes = {file_hash(data): len(data) for tree in trees.values() for data in tree.values()}
    releases = {Release(name, name if len(name) == 40 else None, "2025-01-01"): tree for name, tree in trees.items()}
    return known_build.encode({r: {n: file_hash(d) for n, d in tree.items()} for r, tree in releases.items()}, [], sizes)


def use_known(path: Path, trees: dict[str, dict[str, bytes]]) -> None:
    """From now on these are the known releases."""
    path.write_bytes(known_list(trees))
    known.KNOWN = path
    for cached in (known._table, known.files_of, manifest):
        cached.cache_clear()


@pytest.fixture
def releases(tmp_path_factory, monkeypatch):
    """Call it to make releases the known ones; the pinned commit's is the made-up AITER."""
    monkeypatch.setattr(known, "KNOWN", known.KNOWN)

    def use(**others: dict[str, bytes]) -> None:
        use_known(tmp_path_factory.mktemp("known") / "known.txt.xz", {**others, AITER_COMMIT: FILES})

    yield use
    monkeypatch.undo()
    for cached in (known._table, known.files_of, manifest):
        cached.cache_clear()


@pytest.fixture
def hashes(releases):
    releases()
    return {name: Fact.of(data) for name, data in FILES.items()}


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
    for module in (tables, tuned, provider, plans):
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()
    yield
    client.close_workers()


@pytest.fixture
def no_triton(afresh, monkeypatch):
    """Nothing to record a plan with: what is not in the cache is refused without waiting for a compiler."""
    monkeypatch.setenv("JAX_AITER_TRITON_PYTHON", "/nowhere/python")
