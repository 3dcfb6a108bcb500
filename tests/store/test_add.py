"""`kernels add`: every kind of source, and what is refused."""

import subprocess
import tarfile
import zipfile

import pytest

from jax_aiter.kernels import store
from jax_aiter.kernels.store import source, survey

from .conftest import FILES, UNUSED

pytestmark = pytest.mark.usefixtures("hashes", "root")


def _stored(location):
    return {p.relative_to(location.path).as_posix(): p.read_bytes() for p in location.path.rglob("*") if p.is_file()}


def _tar(checkout, path, top):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(checkout, arcname=top)
    return path


def _zip(checkout, path, top):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**FILES, **UNUSED}.items():
            archive.writestr(f"{top}/{name}", data)
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


@pytest.mark.parametrize("kind", ["checkout", "tar", "tar-dot", "zip", "git"])
def test_every_source_gives_the_same_files(kind, checkout, tmp_path, monkeypatch):
    if kind == "git":
        path = _git(checkout, tmp_path / "bare", monkeypatch)
    elif kind == "checkout":
        path = checkout
    elif kind == "zip":
        path = _zip(checkout, tmp_path / "a.zip", "aiter-e404")
    else:
        path = _tar(checkout, tmp_path / "a.tgz", "." if kind == "tar-dot" else "aiter-e404")
    location = store.add_aiter(path)
    assert location.verified
    assert location.identity == store.AITER_COMMIT
    assert _stored(location) == FILES
    assert store.aiter_location() == location
    assert survey.wrong(location) == []


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
