"""Commits and trees that no git wrote: every object has the contents of its id, and still none of them can be trusted."""

import hashlib
import zlib
from pathlib import Path

import pytest

from jax_aiter.kernels import store

pytestmark = pytest.mark.usefixtures("hashes", "root")
FOLDER, FILE = b"40000", b"100644"


class Database:
    """A bare repository of loose objects, written by hand."""

    def __init__(self, path: Path):
        self.path = path
        (path / "objects").mkdir(parents=True)
        (path / "refs/heads").mkdir(parents=True)
        (path / "HEAD").write_text("ref: refs/heads/main\n")

    def put(self, kind: bytes, data: bytes) -> bytes:
        stored = b"%s %d\0" % (kind, len(data)) + data
        number = hashlib.sha1(stored, usedforsecurity=False)
        place = self.path / "objects" / number.hexdigest()[:2] / number.hexdigest()[2:]
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(zlib.compress(stored))
        return number.digest()

    def tree(self, *entries: tuple[bytes, bytes, bytes]) -> bytes:
        return self.put(b"tree", b"".join(b"%s %s\0" % (mode, name) + number for mode, name, number in entries))

    def commit(self, data: bytes) -> Path:
        (self.path / "refs/heads/main").write_text(self.put(b"commit", data).hex() + "\n")
        return self.path

    def below_aiter(self, tree: bytes) -> Path:
        return self.commit(b"tree %s\n\nx\n" % self.tree((FOLDER, b"aiter", tree)).hex().encode())


@pytest.fixture
def database(tmp_path):
    return Database(tmp_path / "bare")


@pytest.mark.parametrize(
    "tree",
    [b"garbage without end", b"100644 x\0short", b"\0 100644 x\0" + b"a" * 20, b"100644x\0" + b"a" * 20, b"100644 x" + b"a" * 20],
)
def test_a_tree_that_is_none_is_a_clear_error(tree, database):
    with pytest.raises(store.SourceError, match="is damaged: what its folder aiter/ holds cannot be read"):
        store.add_aiter(database.below_aiter(database.put(b"tree", tree)))


@pytest.mark.parametrize(
    "commit", [b"", b"hello", b"tree \xff\xff" + b"a" * 50, b"tree " + b"g" * 40 + b"\n", b"tree " + b"a" * 39 + b"\n"]
)
def test_a_commit_without_a_tree_is_a_clear_error(commit, database):
    with pytest.raises(store.SourceError, match="is damaged: its commit names no tree"):
        store.add_aiter(database.commit(commit))


def test_folders_without_end_are_not_entered(database):
    tree = database.tree()
    for _ in range(2000):
        tree = database.tree((FOLDER, b"a", tree))
    with pytest.raises(store.SourceError, match="holds no AITER"):
        store.add_aiter(database.below_aiter(tree))


@pytest.mark.parametrize("leaf", ["empty", "file"])
def test_a_few_trees_that_stand_for_billions_are_stopped(leaf, database, monkeypatch):
    """Ten folders of ten folders of ...: 12 objects, 10^10 places."""
    monkeypatch.setattr("jax_aiter.kernels.store.limits.ENTRIES", 5000)
    tree = database.tree(*([(FILE, b"x", database.put(b"blob", b""))] if leaf == "file" else []))
    for _ in range(10):
        tree = database.tree(*[(FOLDER, b"%d" % i, tree) for i in range(10)])
    with pytest.raises(store.SourceError, match="has more than 5000 entries"):
        store.add_aiter(database.below_aiter(tree))
