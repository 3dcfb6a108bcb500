"""`kernels add`: every kind of source, and what is refused."""

import subprocess
import tarfile
import zipfile

import pytest

from jax_aiter.kernels import known_sources, store
from jax_aiter.kernels.known import Table, file_hash
from jax_aiter.kernels.store import source, sources, survey
from jax_aiter.kernels.store.files import UnknownError

from .conftest import FILES

pytestmark = pytest.mark.usefixtures("hashes", "root")


def _stored(location):
    return {p.relative_to(location.path).as_posix(): p.read_bytes() for p in location.path.rglob("*") if p.is_file()}


def _tar(checkout, path, top):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(checkout, arcname=top)
    return path


def _zip(checkout, path, top, meta=""):
    """meta: as a wheel has it, what is no Python lies in a folder of its own."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in checkout.rglob("*") if p.is_file() and ".git" not in p.parts):
            name = file.relative_to(checkout).as_posix()
            archive.write(file, f"{top}/{name}" if name.startswith("aiter/") else f"{top}/{meta}{name}")
    return path


def _git(checkout, path, monkeypatch):
    """A bare repository whose one commit stands in for the pinned one."""

    def git(*arguments):
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
        done = subprocess.run(["git", *identity, *arguments], cwd=checkout, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    (checkout / ".gitattributes").write_text("*.py export-ignore\n")  # must not decide what we get
    git("add", ".")
    git("commit", "-q", "-m", "all")
    monkeypatch.setattr(source, "AITER_COMMIT", git("rev-parse", "HEAD"))
    subprocess.run(["git", "clone", "-q", "--bare", str(checkout), str(path)], check=True, capture_output=True)
    return path


KINDS = ["checkout", "tar", "tar-dot", "zip", "wheel", "git"]


def _made(kind, checkout, tmp_path, monkeypatch):
    if kind == "git":
        return _git(checkout, tmp_path / "bare", monkeypatch)
    if kind == "checkout":
        return checkout
    if kind in ("zip", "wheel"):
        return _zip(checkout, tmp_path / "a.zip", "aiter-e404", "aiter_meta/" if kind == "wheel" else "")
    return _tar(checkout, tmp_path / "a.tgz", "." if kind == "tar-dot" else "aiter-e404")


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_the_same_files(kind, checkout, tmp_path, monkeypatch):
    location = store.add_aiter(_made(kind, checkout, tmp_path, monkeypatch))
    assert location.verified
    assert location.identity == store.AITER_COMMIT
    assert _stored(location) == FILES
    assert store.aiter_location() == location
    assert survey.wrong(location) == []


COMPILED = {"csrc/kernels/a.cu": b"a kernel", "csrc/include/a.h": b"its header", "3rdparty/ck_helper/ck/b.h": b"another"}
NOT_COMPILED = {"csrc/kernels/new.cu": b"of no release", "csrc/kernels/a.py": b"no source", "3rdparty/other/a.h": b"nor this"}


@pytest.mark.parametrize("unverified", [False, True], ids=["", "unverified"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_sources_of_hip_kernels_come_along_if_they_are_known(kind, unverified, checkout, tmp_path, monkeypatch):
    for name, data in {**COMPILED, **NOT_COMPILED}.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes(data)
    known = Table((), [], {file_hash(data): [(name, 0)] for name, data in COMPILED.items()}, {})
    monkeypatch.setattr(known_sources, "_table", lambda: known)
    added = store.add(_made(kind, checkout, tmp_path, monkeypatch), unverified=unverified)
    expected = {**COMPILED, **({"csrc/kernels/new.cu": b"of no release"} if unverified else {})}
    assert sorted(added.sources) == sorted(expected)
    assert added.unknown_sources == (() if unverified else ("csrc/kernels/new.cu",))
    assert _stored(added.location) == {**FILES, **expected}
    assert (added.location.identity == store.AITER_COMMIT) == added.location.verified == (not unverified)
    assert {name: sources.read(added.location, name) for name in COMPILED} == COMPILED
    altered = added.location.place("csrc/kernels/a.cu")
    altered.write_bytes(b"another kernel")
    if unverified:
        assert sources.read(added.location, "csrc/kernels/a.cu") == b"another kernel"
        return
    with pytest.raises(UnknownError, match=r"a\.cu .* is not known: no release has one of its hash"):
        sources.read(added.location, "csrc/kernels/a.cu")


def test_changed_file_is_refused_and_named(checkout, root):
    (checkout / "hsa/gfx942/fmoe.co").write_bytes(b"other code")
    with pytest.raises(store.VerificationError, match=r"1 changed \(first: hsa/gfx942/fmoe\.co\).*--unverified"):
        store.add_aiter(checkout)
    assert store.aiter_location() is None
    assert not [p for p in (root / "aiter").iterdir() if p.is_dir()], "a refused source leaves nothing behind"


def test_missing_and_additional_files_are_refused(checkout):
    (checkout / "aiter/configs/tuned.csv").unlink()
    (checkout / "aiter/ops/triton/new.py").write_bytes(b"")
    with pytest.raises(store.VerificationError, match=r"1 missing \(first: aiter/configs/tuned\.csv\), 1 not part of it"):
        store.add_aiter(checkout)


def test_unverified_is_kept_apart(checkout):
    verified = store.add_aiter(checkout)
    (checkout / "aiter/ops/triton/norm.py").write_bytes(b"def rms_norm(): return 1\n")
    changed = store.add_aiter(checkout, unverified=True)
    assert not changed.verified
    assert changed.identity.startswith("unverified-")
    assert changed.path != verified.path
    assert store.aiter_location() == changed


def test_adding_again_repairs(checkout):
    location = store.add_aiter(checkout)
    (location.path / "hsa/gfx942/fmoe.co").write_bytes(b"torn")
    assert survey.wrong(location) == ["hsa/gfx942/fmoe.co"]
    assert survey.wrong(store.add_aiter(checkout)) == []


@pytest.mark.parametrize("what", ["missing", "empty", "text", "git-without-commit"])
def test_a_path_without_aiter_is_a_clear_error(what, tmp_path):
    path = tmp_path / "it"
    message = {
        "missing": "does not exist",
        "empty": "holds no AITER",
        "text": "neither a directory nor a tar or zip archive",
        "git-without-commit": "fetch that commit into it first",
    }[what]
    if what == "empty":
        path.mkdir()
    elif what == "text":
        path.write_text("hello")
    elif what == "git-without-commit":
        subprocess.run(["git", "init", "-q", "--bare", str(path)], check=True)
    with pytest.raises(store.SourceError, match=message):
        store.add_aiter(path)
