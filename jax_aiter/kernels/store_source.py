"""Reads AITER's files from wherever the user has them: a checkout, a git directory, a tar or zip archive."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from jax_aiter.kernels.known import AITER_COMMIT

#: a file that only AITER has, used to find the top folder inside an archive.
LANDMARK = "aiter/ops/triton/__init__.py"

Files = Iterator[tuple[str, bytes]]


class SourceError(ValueError):
    """The given path holds no AITER; the message says what was looked for."""


@contextlib.contextmanager
def open_source(path: Path, wanted: Callable[[str], bool]) -> Iterator[Files]:
    """The files under `path` whose name (relative to AITER's top folder) is `wanted`, as (name, contents)."""
    if not path.exists():
        raise SourceError(f"{path} does not exist")
    if path.is_dir():
        git = _git_directory(path)
        yield _from_directory(path, wanted) if git is None else _from_git(git, wanted)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield _from_zip(archive, path, wanted)
    elif tarfile.is_tarfile(path):
        yield _from_tar(path, wanted)
    else:
        raise SourceError(f"{path} is neither a directory nor a tar or zip archive")


def _git_directory(path: Path) -> Path | None:
    """`path` itself if it is a git directory without a work tree around it."""
    if (path / LANDMARK).is_file():
        return None
    for candidate in (path, path / ".git"):
        if (candidate / "HEAD").is_file() and (candidate / "objects").is_dir():
            return candidate
    raise SourceError(f"{path} holds no AITER: neither {LANDMARK} nor a git directory was found in it")


def _from_directory(root: Path, wanted: Callable[[str], bool]) -> Files:
    for folder in ("aiter", "hsa"):
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            if wanted(name) and path.is_file():
                yield name, path.read_bytes()


def _from_git(git: Path, wanted: Callable[[str], bool]) -> Files:
    """The blobs of the pinned commit (not `git archive`, which lets .gitattributes leave files out or rewrite them)."""
    listing = _git(git, ["ls-tree", "-r", "-z", AITER_COMMIT, "--", "aiter", "hsa"]).split(b"\0")
    entries = [line.split(b"\t", 1) for line in listing if line]
    blobs = [(name.decode(), meta.split()[2]) for meta, name in entries if wanted(name.decode())]
    contents = io.BytesIO(_git(git, ["cat-file", "--batch"], b"".join(blob + b"\n" for _, blob in blobs)))
    for name, _ in blobs:
        size = int(contents.readline().split()[2])
        yield name, contents.read(size)
        contents.read(1)  # the newline after each object


def _git(git: Path, arguments: list[str], stdin: bytes = b"") -> bytes:
    try:
        done = subprocess.run(["git", "--git-dir", str(git), *arguments], input=stdin, capture_output=True, check=False)
    except FileNotFoundError:
        raise SourceError(f"{git} is a git directory, but there is no git command to read it with") from None
    if done.returncode:
        message = done.stderr.decode(errors="replace").strip()
        raise SourceError(f"{git} cannot give commit {AITER_COMMIT} ({message}); fetch that commit into it first")
    return done.stdout


def _from_tar(path: Path, wanted: Callable[[str], bool]) -> Files:
    with tarfile.open(path) as archive:
        top = _top_folder([member.name for member in archive.getmembers()], path)
        for member in archive.getmembers():
            name = member.name.removeprefix("./").removeprefix(top)
            if member.isfile() and wanted(name):
                file = archive.extractfile(member)
                assert file is not None  # a regular file
                yield name, file.read()


def _from_zip(archive: zipfile.ZipFile, path: Path, wanted: Callable[[str], bool]) -> Files:
    top = _top_folder(archive.namelist(), path)
    for member in archive.infolist():
        name = member.filename.removeprefix(top)
        if not member.is_dir() and wanted(name):
            yield name, archive.read(member)


def _top_folder(names: list[str], path: Path) -> str:
    """The prefix (with slash) before AITER's own paths: archives of a commit usually have one folder on top."""
    found = [name.removeprefix("./") for name in names if name.endswith(LANDMARK)]
    if not found:
        raise SourceError(f"{path} holds no AITER: there is no {LANDMARK} in it")
    return min(found, key=len).removesuffix(LANDMARK)
