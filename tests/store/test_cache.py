"""The cache under damage, crashes and several processes."""

import errno
import multiprocessing
import os
import signal
import time

import pytest

from jax_aiter.kernels import cache


def test_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_AITER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_root() == tmp_path / "jax_aiter"
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path / "own"))
    assert cache.cache_root() == tmp_path / "own"


@pytest.mark.parametrize("damage", [b"", b"{", b'{"body": 1}', b'{"body": {"a": 2}, "sha256": "00"}'])
def test_a_damaged_entry_counts_as_absent_until_it_is_written_anew(root, damage):
    path = root / "plans" / "x.json"
    cache.write_entry(path, {"a": [1, 2.5, None]})
    assert cache.read_entry(path) == {"a": [1, 2.5, None]}
    path.write_bytes(damage)
    assert cache.read_entry(path) is None
    assert path.read_bytes() == damage, "reading changes nothing"
    cache.write_entry(path, 3)
    assert cache.read_entry(path) == 3


def test_a_damaged_code_object_counts_as_absent(root):
    code = os.urandom(5000)
    name = cache.put_code(root, code)
    assert cache.put_code(root, code) == name
    assert cache.get_code(root, name) == code
    path = root / "code" / name
    for damaged in (b"", path.read_bytes()[:-7], b"not zlib"):
        path.write_bytes(damaged)
        assert cache.get_code(root, name) is None
        assert cache.put_code(root, code) == name
        assert cache.get_code(root, name) == code


def test_an_unusable_directory_names_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(cache.CacheError, match="set JAX_AITER_CACHE"):
        cache.write_entry(tmp_path / "file" / "x.json", 1)


@pytest.mark.parametrize(("code", "remedy"), [(errno.ENOSPC, "kernels prune"), (errno.EACCES, "make it writable")])
def test_a_full_or_read_only_disk_names_the_remedy_and_leaves_no_piece(root, monkeypatch, code, remedy):
    cache.write_entry(root / "a.json", 1)

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(cache.CacheError, match=remedy):
        cache.write_entry(root / "a.json", 2)
    monkeypatch.undo()
    assert cache.read_entry(root / "a.json") == 1
    assert [p.name for p in root.iterdir()] == ["a.json"]


def _add_many(root, start):
    for i in range(100):
        with cache.locked(root, "count"):
            path = root / "count.json"
            cache.write_entry(path, (cache.read_entry(path) or 0) + 1)
        cache.put_code(root, bytes([i]) * 100)


def _hold(root, held):
    with cache.locked(root, "count"):
        held.set()
        time.sleep(60)


@pytest.fixture
def spawn():
    return multiprocessing.get_context("spawn")


def test_processes_do_not_lose_each_others_writes(root, spawn):
    workers = [spawn.Process(target=_add_many, args=(root, i)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert cache.read_entry(root / "count.json") == 200
    assert all(cache.get_code(root, p.name) is not None for p in (root / "code").iterdir())


def test_a_killed_process_gives_its_lock_back(root, spawn):
    held = spawn.Event()
    worker = spawn.Process(target=_hold, args=(root, held))
    worker.start()
    assert held.wait(60)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    with cache.locked(root, "count"):
        pass  # would hang if the dead process still held it
