"""Reads the files of one commit out of a git directory, without git.

A git directory says in its configuration which commands git shall run: to fetch what a partial clone lacks, to watch files, to
reach a remote. Whoever made the directory wrote it, so here nothing of it is read but the objects, by their ids, and each object
is compared with its id: neither replaced nor grafted nor borrowed objects can stand in for others. Nothing is ever fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from jax_aiter.kernels.disk import read_plain
from jax_aiter.kernels.known_sources import FOLDERS
from jax_aiter.kernels.store.git_objects import Objects
from jax_aiter.kernels.store.limits import DEPTH, Total, check_size
from jax_aiter.kernels.store.names import Once, SourceError, Wanted, is_plain

REFS = 64 << 20  # bytes; AITER's repository has some thousand refs of 60 to 100 bytes
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TREE = re.compile(rb"tree ([0-9a-f]{40})\n")
_ENTRY = re.compile(rb"([0-7]{1,6}) ([^\0]*)\0(.{20})", re.DOTALL)
FOLDER, FILES = b"40000", (b"100644", b"100755", b"100664")


def git_directory(path: Path) -> Path | None:
    """`path` itself if it is a git directory, or that of the work tree at `path`; None if there is none."""
    for candidate in (path, path / ".git"):
        if candidate.is_file():  # of a linked work tree, or a submodule
            text = _line(candidate)
            if not text.startswith("gitdir: "):
                return None
            candidate = path / text.removeprefix("gitdir: ")
        if os.path.lexists(candidate / "commondir"):
            candidate = candidate / _line(candidate / "commondir")
        if (candidate / "HEAD").is_file() and (candidate / "objects").is_dir():
            return candidate
    return None


def _line(path: Path) -> str:
    return os.fsdecode(read_plain(path, 4096)).rstrip("\n")


def head(git: Path) -> str | None:
    """The commit that HEAD names; None if it names none, or names it in a way that only git can read."""
    text = _line(git / "HEAD")
    if text.startswith("ref: "):
        name = text.removeprefix("ref: ")
        if not (name.startswith("refs/") and is_plain(name)):
            return None
        text = _line(git / name) if (git / name).is_file() else _packed(git / "packed-refs").get(name, "")
    return text if _COMMIT.fullmatch(text) else None


def _packed(path: Path) -> dict[str, str]:
    """Refs by name as `git pack-refs` leaves them: a line each, of the id and the name."""
    if not path.is_file():
        return {}
    lines = (line.split(" ") for line in os.fsdecode(read_plain(path, REFS)).splitlines())
    return {parts[1]: parts[0] for parts in lines if len(parts) == 2}


def read_git(git: Path, commit: str, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """The wanted files of `commit`, or of what HEAD names if that is not there: a clone of another date.

    They are not as a checkout or `git archive` would give them: .gitattributes change nothing.
    """
    objects, total, once = Objects(git / "objects"), Total(git), Once(git)
    found = objects.get(bytes.fromhex(commit), b"commit")
    if found is None:
        other = head(git)
        found = None if other is None else objects.get(bytes.fromhex(other), b"commit")
        if found is None:
            raise SourceError(f"{git} does not hold commit {commit}, nor one that HEAD names; fetch that commit into it first")
    tree = _TREE.match(found)
    if tree is None:
        raise SourceError(f"{git} is damaged: its commit names no tree")
    for name, mode, blob in _files(objects, git, bytes.fromhex(tree[1].decode()), "", total):
        if not is_plain(name) or not wanted(name):
            continue
        once(name)
        if mode not in FILES:
            raise SourceError(f"{git}: {name} is a link or a submodule; only plain files are read")
        data = _present(objects.get(blob, b"blob"), git, name)
        check_size(git, name, len(data))
        total.taken(data)
        yield name, data


def _files(objects: Objects, git: Path, tree: bytes, prefix: str, total: Total) -> Iterator[tuple[str, bytes, bytes]]:
    """(name, mode, id) of everything below a tree that is no folder; of the top one, only AITER's two folders are entered.

    A few trees that name each other many times stand for any number of folders, so folders count too, and go so deep only.
    """
    for mode, part, entry in _entries(_present(objects.get(tree, b"tree"), git, prefix or "/"), git, prefix):
        total.entry()
        name = prefix + part
        if "/" in part:
            continue  # git writes no slash into a name
        if mode != FOLDER:
            yield name, mode, entry
        elif is_plain(name) and name.count("/") < DEPTH and (prefix or name in ("aiter", "hsa", *FOLDERS)):
            yield from _files(objects, git, entry, f"{name}/", total)


def _entries(data: bytes, git: Path, prefix: str) -> Iterator[tuple[bytes, str, bytes]]:
    """(mode, name, id) of what a tree lists. Its contents are those of its id, which whoever wrote them may have computed."""
    position = 0
    while position < len(data):
        entry = _ENTRY.match(data, position)
        if entry is None:
            raise SourceError(f"{git} is damaged: what its folder {prefix or '/'} holds cannot be read")
        mode, name, number = entry.groups()
        yield mode, name.decode("utf-8", "surrogateescape"), number
        position = entry.end()


def _present(data: bytes | None, git: Path, name: str) -> bytes:
    if data is None:
        raise SourceError(f"{git} lacks {name} of the commit (a partial or damaged clone); fetch that commit into it first, whole")
    return data
