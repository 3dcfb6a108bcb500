"""AITER's files known by their content: the shipped list, and trees compared with its releases."""

import subprocess
import zipfile

import pytest

from jax_aiter.kernels import known, known_build
from jax_aiter.kernels.known import (
    AITER_COMMIT,
    PYPI_RELEASE,
    best_release,
    compared,
    file_hash,
    files_of,
    is_wanted,
    lookup,
    releases,
)
from jax_aiter.kernels.manifest import manifest

OLD, NEW = "0.1.6", "0.1.10"


def test_the_list_is_small_and_holds_no_contents():
    assert known.KNOWN.stat().st_size + known.PROVEN.stat().st_size < 1_000_000
    for release in (PYPI_RELEASE, AITER_COMMIT):
        names = files_of(release)
        assert all(is_wanted(name) and len(key) == 32 and int(key, 16) >= 0 for name, key in names.items())


def test_both_tested_releases_are_there_and_the_commit_is_last():
    names = [release.name for release in releases()]
    assert names[-1] == AITER_COMMIT
    assert names.index("0.1.7.post1") < names.index(PYPI_RELEASE) < names.index("0.1.7.post2") < names.index("0.1.10")
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("release", [PYPI_RELEASE, AITER_COMMIT, OLD])
def test_a_file_is_found_by_its_hash(release):
    for name, key in list(files_of(release).items())[::50]:
        found = lookup(key)
        assert found is not None
        assert found.hash == key
        assert name in found.names
        assert release in found.releases
        assert found.size >= 0
    assert lookup(file_hash(b"no file of AITER")) is None


def test_releases_of_a_file_are_in_order():
    order = [release.name for release in releases()]
    for key in files_of(AITER_COMMIT).values():
        held = lookup(key).releases
        assert [name for name in order if name in held] == list(held)


def test_what_ran_is_said_of_every_release_with_the_object():
    proven = [key for name, key in files_of(PYPI_RELEASE).items() if name.endswith(".co") and lookup(key).proven]
    assert len(proven) > 1000
    assert not any(lookup(key).defects for key in proven)


@pytest.mark.parametrize("release", [PYPI_RELEASE, AITER_COMMIT, OLD, NEW])
def test_a_release_matches_itself_exactly(release):
    found = best_release(files_of(release))
    assert found.exact
    assert files_of(found.release.name) == files_of(release)  # some releases hold the same files


def test_a_broken_install_is_its_release_with_files_missing():
    tree = dict(list(files_of(PYPI_RELEASE).items())[::2])
    found = best_release(tree)
    assert (found.other, found.extra, found.unknown) == ((), (), ())
    assert found.same == len(tree)
    assert set(found.missing) == files_of(PYPI_RELEASE).keys() - tree.keys()


def test_changed_exchanged_and_added_files_are_named():
    tree, newer = dict(files_of(OLD)), files_of(NEW)
    exchanged = next(name for name, key in newer.items() if tree.get(name, key) != key)
    added = next(name for name in newer if name not in tree)
    changed, gone, *_ = (name for name in sorted(tree) if name != exchanged)
    tree |= {exchanged: newer[exchanged], added: newer[added], changed: file_hash(b"?"), "hsa/gfx942/mine.co": file_hash(b"!")}
    del tree[gone]
    found = compared(tree, OLD)
    assert found.release.name == OLD
    assert (found.other, found.missing, found.extra) == ((exchanged,), (gone,), (added,))
    assert set(found.unknown) == {changed, "hsa/gfx942/mine.co"}
    assert found.same == len(tree) - 4
    assert best_release(tree).release.name == OLD


def test_a_tree_of_strangers_matches_no_release():
    assert best_release({"hsa/gfx942/a.co": file_hash(b"a"), "aiter/ops/triton/__init__.py": file_hash(b"b")}) is None


@pytest.fixture
def repository(tmp_path):
    """Two tags on one line, a commit between them that only the history has, and one after."""
    work, bodies = tmp_path / "work", (b"one", b"between", b"two", b"three")

    def git(*arguments):
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
        subprocess.run(["git", *identity, *arguments], cwd=work, check=True, capture_output=True)

    work.mkdir()
    git("init", "-q")
    for i, body in enumerate(bodies):
        for name in ("hsa/gfx942/a.co", "hsa/gfx942/b c.co", "README.md"):
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(body if name.endswith("/a.co") else b"same")
        (work / "hsa/gfx942/link.co").unlink(missing_ok=True)
        (work / "hsa/gfx942/link.co").symlink_to("a.co")
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", "x")
        if i in (0, 2):
            git("tag", f"v0.{1 + i}.post1")
    return work / ".git"


def test_the_list_is_built_from_tags_history_and_wheels(repository, tmp_path, monkeypatch):
    head = subprocess.check_output(["git", "--git-dir", repository, "rev-parse", "HEAD"], text=True).strip()
    wheel = tmp_path / "amd_aiter-0.2.dev3-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("aiter_meta/hsa/gfx942/a.co", b"one")
        archive.writestr("aiter_meta/hsa/gfx942/wheel only.co", b"wheel")
        archive.writestr("aiter/mla.py", b"import torch")
        archive.writestr("aiter_meta/csrc/kernels/a.cu", b"a kernel")
    monkeypatch.setattr(known_build, "AITER_COMMIT", head)
    written = tmp_path / "known.txt.xz"
    monkeypatch.setattr(known_build, "KNOWN", written)
    monkeypatch.setattr(known_build, "SOURCES", tmp_path / "sources.txt.xz")
    monkeypatch.setattr("sys.argv", ["known_build", str(repository), "--package", str(wheel)])
    known_build.main()
    found = known.read_table(tmp_path / "sources.txt.xz")
    assert {hash: [name for name, _ in places] for hash, places in found.places.items()} == {
        file_hash(b"a kernel"): ["csrc/kernels/a.cu"]
    }
    monkeypatch.setattr(known, "KNOWN", written)
    for cached in (known._table, files_of):
        cached.cache_clear()
    try:
        assert [r.name for r in releases()] == ["0.1.post1", "0.2.dev3", "0.3.post1", head]
        assert [r.commit is None for r in releases()] == [False, True, False, False]
        assert files_of("0.2.dev3") == {"hsa/gfx942/a.co": file_hash(b"one"), "hsa/gfx942/wheel only.co": file_hash(b"wheel")}
        assert files_of(head) == {"hsa/gfx942/a.co": file_hash(b"three"), "hsa/gfx942/b c.co": file_hash(b"same")}
        one, between, same = (lookup(file_hash(body)) for body in (b"one", b"between", b"same"))
        assert (one.names, one.releases, one.size) == (("hsa/gfx942/a.co",), ("0.1.post1", "0.2.dev3"), 3)
        assert (between.names, between.releases) == (("hsa/gfx942/a.co",), ())
        assert same.names == ("hsa/gfx942/b c.co",)
        assert same.releases == ("0.1.post1", "0.3.post1", head)
    finally:
        for cached in (known._table, files_of):
            cached.cache_clear()


def test_shipped_manifest_covers_both_archs_and_names_no_contents():
    names = manifest()
    for prefix, suffix in (("hsa/gfx942/", ".co"), ("hsa/gfx950/", ".co"), ("aiter/ops/triton/", ".py")):
        assert sum(n.startswith(prefix) and n.endswith(suffix) for n in names) > 300
    assert all(is_wanted(name) and len(fact.hash) == 32 and int(fact.hash, 16) >= 0 for name, fact in names.items())
