"""`kernels prune` removes what is ours out of a folder that is ours, and nothing else anywhere; what only looks removes nothing."""

import fcntl
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from jax_aiter.cli.kernels import kernels
from jax_aiter.core.config import config
from jax_aiter.kernels import cache, disk, store
from jax_aiter.kernels.marker import TAG, TEXT, is_marked, mark, others_can_write
from jax_aiter.kernels.prune import prune
from jax_aiter.kernels.store import location as location_module
from jax_aiter.kernels.store import sources
from jax_aiter.kernels.triton import plans
from tests.triton.test_worker import SPEC, record

from .hostile import everything

pytestmark = pytest.mark.usefixtures("hashes", "no_package")
TAG_OF_ANOTHER = b"Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by cargo.\n"


def run(*arguments):
    done = CliRunner().invoke(kernels, [str(a) for a in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def _filled(root: Path, checkout: Path) -> None:
    """A plan, a compiled kernel, code that is used and code that is not, two copies of AITER, leftovers of killed runs."""
    store.add_aiter(checkout, root=root)
    first = checkout / "aiter/ops/triton/norm.py"
    text = first.read_bytes()
    first.write_bytes(text + b"#\n")
    store.add_aiter(checkout, unverified=True, root=root)
    first.write_bytes(text)
    store.add_aiter(checkout, root=root)
    version = plans.triton_version() or "3.6.0"
    plans.find_or_build(SPEC, root, lambda spec: ({"record": record(root)}, version))
    cache.put_code(root, b"nobody refers to this")
    cache.write_entry(root / "kernels/gfx942" / f"{'0' * 64}.json", {"code": "1" * 64})
    cache.write_entry(root / "plans/of_another_aiter/gfx942/rms_norm/0123-3.6.0.json", {"refused": "no"})
    for folder in ("", "code", "kernels/gfx942", "aiter", "plans/of_another_aiter/gfx942/rms_norm"):
        (root / folder / ".tmp-left").write_bytes(b"half of a file")
    (root / "aiter/.tmp-staging/aiter").mkdir(parents=True)


#: what a user may keep in a folder that is called like ours.
OWN = ["code/main.py", "kernels/linux/bzImage", "plans/2026/summer/trip/notes.json", "aiter/README.md", "locks/key", "thesis.tex",
       "tune/piano.json", "aiter/e4048607/file", "code/" + "a" * 63, "kernels/gfx942/notes.json", "plans/a.json",
       "hip/gfx942/notes.json", "hip/song.json"]  # fmt: skip


def _own(root: Path) -> dict[str, bytes]:
    for name in OWN:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"mine: " + name.encode())
    return {name: (root / name).read_bytes() for name in OWN}


def _kept(root: Path, own: dict[str, bytes]) -> bool:
    return {name: (root / name).read_bytes() for name in own if (root / name).exists()} == own


@pytest.mark.parametrize("option", [[], ["--all"]], ids=["", "all"])
@pytest.mark.parametrize("tag", [None, TAG_OF_ANOTHER, b"", b"Signature: 8a477f597d28d172789f06886806bc55\n", "link", "folder"])
def test_a_folder_that_was_not_empty_when_it_became_the_cache_is_never_pruned(tag, option, root, checkout):
    own = _own(root)
    if tag == "link":
        (root.parent / "tag").write_bytes(TEXT)
        (root / TAG).symlink_to(root.parent / "tag")
    elif tag == "folder":
        (root / TAG).mkdir()
    elif tag is not None:
        (root / TAG).write_bytes(tag)
    store.add_aiter(checkout)  # it is used all the same
    assert not is_marked(root)
    before = everything(root)
    done = run("prune", *option)
    assert done.exit_code == 1
    assert "nothing is removed from" in done.output
    assert everything(root) == before
    assert _kept(root, own)


@pytest.mark.parametrize("option", [[], ["--all"]], ids=["", "all"])
def test_in_a_marked_folder_only_our_names_are_removed(option, root, checkout):
    _filled(root, checkout)
    assert is_marked(root)
    own = _own(root)
    assert run("prune", *option).exit_code == 0
    assert _kept(root, own)
    left = {name for name in everything(root) if name not in own}
    assert not any(".tmp-" in name for name in left)
    assert not (root / "aiter/.tmp-staging").exists()
    if option:
        assert left == {TAG, "locks/aiter.lock", "locks/build.lock", *(n for n in left if n.startswith("locks/plan-"))}
    else:
        assert plans.find(SPEC, root) is not None
        assert store.aiter_location().identity == store.AITER_COMMIT
        assert len([n for n in left if n.startswith("code/")]) == 1
        assert not [n for n in left if "unverified" in n or "of_another" in n]


@pytest.mark.parametrize("option", [[], ["--all"]], ids=["", "all"])
@pytest.mark.parametrize("name", ["aiter", "code", "kernels", "plans", "aiter/" + store.AITER_COMMIT, "plans/x", "plans/x/gfx942"])
def test_no_link_is_followed(name, option, root, checkout, tmp_path):
    other = tmp_path / "other"
    _filled(other, checkout) if name in ("aiter", "code", "kernels", "plans") else _own(other)
    for folder in ("x/gfx942/rms_norm", "gfx942/rms_norm", "rms_norm"):
        (other / folder).mkdir(parents=True, exist_ok=True)
        (other / folder / "0123-3.6.0.json").write_bytes(b"mine")
    mark(root)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(other / name if (other / name).exists() else other)
    before = everything(other)
    run("prune", *option)
    assert everything(other) == before
    assert (root / name).is_symlink()


@pytest.mark.parametrize("command", [["list"], ["verify"]], ids=str)
def test_looking_removes_and_changes_nothing(command, root, checkout):
    _filled(root, checkout)
    for path in (*root.rglob("*.json"), *(root / "code").iterdir()):
        if "aiter/e4048607" not in str(path) and path.name != "current.json":
            path.write_bytes(path.read_bytes()[:-2])
    before = everything(root)
    run(*command)
    store.aiter_location()
    plans.find(SPEC, root)
    assert everything(root) == before


def test_looking_at_a_cache_that_is_not_there_does_not_make_one(root):
    for command in (["list"], ["verify"], ["prune"], ["prune", "--all"]):
        run(*command)
    assert not root.exists()


@pytest.mark.parametrize("command", [["list"], ["prune"], ["prune", "--all"]], ids=str)
def test_a_cache_that_is_the_whole_disk_is_neither_walked_nor_emptied(command, monkeypatch):
    monkeypatch.setenv("JAX_AITER_CACHE", "/")
    begin = time.monotonic()
    done = run(*command)
    assert time.monotonic() - begin < 20
    assert done.exit_code == (1 if command[0] == "prune" else 0)


def test_a_new_or_empty_folder_is_marked_and_a_used_one_is_not(root, tmp_path):
    cache.put_code(root, b"x")
    assert (root / TAG).read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")
    empty, used = tmp_path / "empty", tmp_path / "used"
    empty.mkdir()
    used.mkdir()
    (used / "file").write_bytes(b"")
    for folder in (empty, used):
        with cache.locked(folder, "x"):
            pass
    assert is_marked(empty)
    assert not is_marked(used)


def test_a_cache_made_by_us_can_be_entered_by_nobody_else(root):
    old = os.umask(0)
    try:
        cache.put_code(root, b"x")
    finally:
        os.umask(old)
    assert root.stat().st_mode & 0o077 == 0
    assert others_can_write(root, "code") is None


# ---- leftovers and whoever is at work


def _write_and_wait(path, opened):
    real = os.replace

    def wait(*arguments):
        opened.set()
        time.sleep(60)
        real(*arguments)

    os.replace = wait
    disk.write_atomic(path, b"new")


@pytest.fixture
def spawn():
    return multiprocessing.get_context("spawn")


def test_what_a_killed_run_left_is_swept_and_what_a_living_one_writes_is_not(root, spawn):
    mark(root)
    opened = spawn.Event()
    worker = spawn.Process(target=_write_and_wait, args=(root / "code" / "x", opened))
    worker.start()
    assert opened.wait(60)
    (temporary,) = (root / "code").glob(".tmp-*")
    prune(root)
    assert temporary.exists(), "it is being written"
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    prune(root)
    assert not temporary.exists()


def test_a_writer_whose_file_was_swept_before_it_had_its_lock_takes_another(root, monkeypatch):
    mark(root)
    real, calls = fcntl.flock, []

    def flock(handle, how):
        calls.append(how)
        if len(calls) == 1:
            for path in (root / "code").glob(".tmp-*"):
                path.unlink()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    disk.write_atomic(root / "code" / "x", b"data")
    assert (root / "code" / "x").read_bytes() == b"data"
    assert len(calls) == 2


def test_leftovers_of_adding_are_swept_by_the_next_one(root, checkout):
    mark(root)
    (root / "aiter/.tmp-left/hsa").mkdir(parents=True)
    store.add_aiter(checkout)
    assert not list((root / "aiter").glob(".tmp-*"))


def _build_slowly(root, began):
    location_module.installed = lambda: None  # as `no_package` has it in the parent: a plan is of the AITER that is there

    def build(spec):
        made = {"record": record(root)}
        began.set()
        time.sleep(2)
        return made, plans.triton_version() or "3.6.0"

    plans.find_or_build(SPEC, root, build)


def test_the_code_of_a_plan_that_is_being_built_is_not_pruned(root, spawn):
    began = spawn.Event()
    worker = spawn.Process(target=_build_slowly, args=(root, began))
    worker.start()
    assert began.wait(60)
    prune(root)
    worker.join()
    assert worker.exitcode == 0
    assert plans.find(SPEC, root) is not None


def test_adding_again_never_leaves_a_moment_without_aiter(root, checkout, monkeypatch):
    """Whoever reads meanwhile finds every file: an existing copy is mended in place."""
    location = store.add_aiter(checkout)
    shutil.rmtree(location.path / "hsa/gfx942")
    real, seen = os.replace, []

    def replace(source, target):
        seen.append((location.path / "aiter/ops/triton/norm.py").exists())
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    store.add_aiter(checkout)
    assert len(seen) > 5
    assert all(seen)


# ---- who could write


@pytest.mark.parametrize(
    ("mode", "owner", "group", "words"),
    [
        (0o700, 0, 0, None),
        (0o755, 0, 0, None),
        (0o775, 0, 0, None),
        (0o777, 0, 0, "everybody can write to"),
        (0o1777, 0, 0, "everybody can write to"),
        (0o770, 0, 65534, "group .* can write to"),
        (0o755, 0, 65534, None),
        (0o700, 65534, 0, "belongs to"),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_who_else_could_have_put_a_plan_there_is_said(mode, owner, group, words, root, checkout):
    location = store.add_aiter(checkout)
    assert location.verified
    os.chown(root, owner, group)
    root.chmod(mode)
    again = store.aiter_location()
    assert again.verified == (words is None)
    assert again.path == location.path
    output = run("list").output
    assert ("NOT verified" in output) == (words is not None)
    added = run("add", checkout).output
    assert ("NOT verified" in added) == (words is not None)


def test_what_was_compiled_of_other_sources_goes_with_its_code_and_the_rest_stays(root, checkout):
    source = checkout / "csrc/kernels/a.cu"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"a kernel")
    location = store.Location(checkout, "setting", location_module.AS_IT_IS, None)
    tree = sources.identity(location, sources.together(location, ("csrc/kernels",)))

    def front_end(name: str, tree: str, folders: list[str]) -> tuple[Path, str]:
        code = cache.put_code(root, name.encode())
        path = root / "hip/gfx942" / f"{name}-{'0' * 40}.json"
        cache.write_entry(path, {"folders": folders, "tree": tree, "bitcode": code})
        return path, code

    kept, kept_code = front_end("present", tree, ["csrc/kernels"])
    gone = [front_end("past", "0" * 32, ["csrc/kernels"]), front_end("hostile", tree, ["../../.."])]

    def plan(name: str, tree: str) -> Path:
        path = root / "plans" / name / "gfx942/silu_and_mul/0123-hip.json"
        cache.write_entry(path, {"refused": "no", "sources": [{"folders": ["csrc/kernels"], "tree": tree}]})
        return path

    kept_plan, gone_plan = plan("present", tree), plan("past", "0" * 32)
    torn = root / "hip/gfx942" / f"torn-{'0' * 40}.json"
    torn.write_bytes(b"{}")
    with config(source=str(checkout), unverified=True):
        prune(root)
    assert kept.exists()
    assert kept_plan.exists()
    assert not gone_plan.exists()
    assert cache.get_code(root, kept_code) == b"present"
    assert not torn.exists()
    assert not any(path.exists() or cache.get_code(root, code) for path, code in gone)
    prune(root, everything=True)
    assert not kept.exists()
    assert cache.get_code(root, kept_code) is None
