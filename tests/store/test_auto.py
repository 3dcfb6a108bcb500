"""A cache that cannot be read, is damaged or holds altered files: auto goes on with the next implementation and says so once, an
explicit call raises our error, and nothing that only asks ever raises or changes a file."""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner

import jax_aiter
from jax_aiter.cli.kernels import kernels
from jax_aiter.core.errors import KernelBuildError, NotSupportedError
from jax_aiter.kernels import cache, recorded
from jax_aiter.kernels.call import CUSTOM_CALL_TARGETS
from jax_aiter.kernels.known import AITER_COMMIT
from jax_aiter.kernels.store.location import entry
from tests.needs import needs_aiter

from .auto import asked, lowered, planned
from .hostile import everything
from .test_read import _flip, _with_one_altered

pytestmark = pytest.mark.usefixtures("afresh", "no_package")
TOPK = "hsa/gfx942/topksoftmax/topksoftmax.csv"
NOBODY = 65534


# ---- altered files of AITER


def _cache_with_one_altered(folder: Path, name: str, change) -> Path:
    """A cache that holds links to the commit's real files, and one altered copy."""
    real, root = needs_aiter("hsa", where=lambda location: location.identity == AITER_COMMIT), folder / "cache"
    _with_one_altered(root / "aiter" / AITER_COMMIT, real, name, change)
    cache.write_entry(entry(root), {"identity": AITER_COMMIT})
    return root


@pytest.mark.usefixtures("no_triton")
@pytest.mark.parametrize("name", [TOPK, "hsa/gfx942/topksoftmax/topksoftmax_4x128x8_bf16.co"])
def test_an_altered_table_or_code_object_is_not_run(name, tmp_path, monkeypatch):
    root = _cache_with_one_altered(tmp_path, name, _flip)
    monkeypatch.setenv("JAX_AITER_CACHE", str(root))
    before = everything(root)
    with pytest.raises((NotSupportedError, KernelBuildError), match="is altered"):
        lowered("asm")
    with pytest.warns(RuntimeWarning) as caught:
        assert not any(target in lowered() for target in CUSTOM_CALL_TARGETS)
    assert sum("is altered" in str(w.message) for w in caught) == 1
    assert {k: v for k, v in everything(root).items() if not k.startswith("locks")} == before


def test_the_same_call_runs_the_kernel_on_files_that_are_in_order(tmp_path, monkeypatch):
    root = _cache_with_one_altered(tmp_path, TOPK, lambda path: None)
    monkeypatch.setenv("JAX_AITER_CACHE", str(root))
    for implementation in ("asm", None):
        assert CUSTOM_CALL_TARGETS[0] in lowered(implementation)


@pytest.mark.parametrize("name", ["aiter/ops/triton/normalization/rmsnorm.py", "aiter/ops/triton/utils/core.py"])
def test_an_altered_python_file_is_not_imported(name, tmp_path, monkeypatch):
    root = _cache_with_one_altered(tmp_path, name, lambda path: path.write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n"))
    monkeypatch.setenv("JAX_AITER_CACHE", str(root))
    asked(f"{name} .*is altered", "triton", "rms_norm")
    assert not (tmp_path / "mark").exists()


# ---- caches that cannot be used


def _file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file where a folder should be")


def _loop(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path)


def _current(text: bytes):
    def write(root: Path) -> None:
        entry(root).parent.mkdir(parents=True)
        entry(root).write_bytes(text)

    return write


def _of(body):
    """An entry whose hash is right, whatever it holds."""
    return _current(cache.canonical({"sha256": cache.digest(cache.canonical(body)), "body": body}))


def _special(make):
    def write(root: Path) -> None:
        entry(root).parent.mkdir(parents=True)
        make(entry(root))

    return write


UNUSABLE = {
    "the root is a file": _file,
    "the root is a loop": _loop,
    "aiter is a file": lambda root: _file(root / "aiter"),
    "aiter is a loop": lambda root: _loop(root / "aiter"),
    "the entry is empty": _current(b""),
    "the entry is torn": _current(b'{"body":{"identity":"e404'),
    "the entry is no text": _current(b"\xff\xfe\0"),
    "the entry nests": _current(b"[" * 2_000_000),
    "the entry has a long number": _current(b'{"body": ' + b"9" * 100_000 + b', "sha256": ""}'),
    "the entry has another hash": _current(b'{"body": {"identity": "x"}, "sha256": "0"}'),
    "the entry is a list": _of([1, 2]),
    "the entry is a number": _of(7),
    "the entry names nothing": _of({}),
    "the entry names a number": _of({"identity": 3}),
    "the entry names a way up": _of({"identity": "../../../etc"}),
    "the entry names escapes": _of({"identity": "\x1b]0;owned\x07"}),
    "the entry is a folder": _special(os.mkdir),
    "the entry is a pipe": _special(os.mkfifo),
    "the entry is endless": _special(lambda path: path.symlink_to("/dev/zero")),
    "the entry is a loop": _special(lambda path: path.symlink_to(path)),
    "the entry has a terabyte": lambda root: (_current(b"{")(root), os.truncate(entry(root), 1 << 40)),
}


@pytest.mark.usefixtures("no_triton")
@pytest.mark.parametrize("implementation", ["asm", "triton"])
@pytest.mark.parametrize("what", UNUSABLE)
def test_a_cache_that_is_damaged(what, implementation, tmp_path, monkeypatch):
    root = tmp_path / "cache"
    UNUSABLE[what](root)
    monkeypatch.setenv("JAX_AITER_CACHE", str(root))
    before = everything(root) if "terabyte" not in what and "nests" not in what else None
    asked("kernel cache .*(usable directory|damaged|kernels add|Not a plain file|a directory|more than)", implementation)
    listed = CliRunner().invoke(kernels, ["list"])
    assert listed.exit_code == 1
    assert "kernel cache" in listed.output
    if before is not None:
        assert everything(root) == before


@pytest.mark.usefixtures("no_triton")
@pytest.mark.parametrize(
    "where", ["/dev/null", "/dev/null/x", "~jax_aiter_no_such_user/x", "/proc/self/nowhere", "x" * 300, "/" + "y/" * 3000]
)
def test_a_cache_that_cannot_be(where, monkeypatch):
    monkeypatch.setenv("JAX_AITER_CACHE", where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lowered()
        with pytest.raises((NotSupportedError, KernelBuildError)):
            lowered("asm")
        with pytest.raises((NotSupportedError, KernelBuildError)):
            lowered("triton")
    for command in (["list"], ["verify"], ["prune"], ["prune", "--all"], ["add", "."]):
        done = CliRunner().invoke(kernels, command)
        assert done.exception is None or isinstance(done.exception, SystemExit), (command, done.exception)
    assert not jax_aiter.is_aiter_found()


@pytest.fixture
def in_sight():
    """A folder that other users can enter. pytest's own are not: it closes the one above them all at the start of each run."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    closed = [str(parent) for parent in folder.parents if not parent.stat().st_mode & 0o001]
    if closed:
        pytest.skip(f"temporary folders are closed to other users, in {closed[-1]}")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def as_nobody(in_sight):
    """Runs the test's body without a superuser's rights, which removing the folder takes; what is imported late is read before."""
    if os.geteuid():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lowered()
    yield lambda: os.seteuid(NOBODY)
    os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.usefixtures("no_triton")
@pytest.mark.parametrize("implementation", ["asm", "triton"])
@pytest.mark.parametrize("closed", ["", "aiter", "aiter/current.json"])
def test_a_cache_of_another_user_that_is_closed(closed, implementation, as_nobody, in_sight, monkeypatch):
    root = in_sight / "cache"
    _of({"identity": AITER_COMMIT})(root)
    for folder in (root, root / "aiter"):
        folder.chmod(0o755)
    (root / closed).chmod(0o700)
    monkeypatch.setenv("JAX_AITER_CACHE", str(root))
    as_nobody()
    assert in_sight.is_dir(), "what is closed is the cache"
    asked("kernel cache .*Permission denied; give yourself access", implementation)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.usefixtures("no_triton")
def test_a_read_only_cache_with_a_torn_plan(as_nobody, in_sight, monkeypatch):
    root = planned(in_sight)
    (path,) = (root / "plans").rglob("*.json")
    path.write_bytes(path.read_bytes()[:-5])
    for folder in (root, *root.rglob("*")):
        folder.chmod(0o755)
    monkeypatch.setenv("JAX_AITER_CACHE", str(root))
    as_nobody()
    with pytest.raises((NotSupportedError, KernelBuildError)):
        lowered("triton", "rms_norm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lowered(None, "rms_norm")
    assert path.exists()


# ---- a cache that others can write


def test_a_cache_that_others_can_write_is_not_verified_and_says_so(tmp_path, monkeypatch):
    root = planned(tmp_path)
    monkeypatch.setenv("JAX_AITER_CACHE", str(root))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lowered("triton", "rms_norm")
    root.chmod(0o777)
    recorded.doubt.cache_clear()
    with pytest.warns(RuntimeWarning, match="not verified: everybody can write to"):
        lowered("triton", "rms_norm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lowered("triton", "rms_norm")
    assert "NOT verified: everybody can write to" in CliRunner().invoke(kernels, ["list"]).output
    shutil.rmtree(root)
