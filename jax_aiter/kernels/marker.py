"""Whose folder the cache is: the mark that makes it one, and who else could write into it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from jax_aiter.kernels import disk

TAG = "CACHEDIR.TAG"
# The first line is what the cache directory tagging standard asks for, so that backups leave the folder out; by the second we know
# our own from those of other programs.
TEXT = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# This directory is a cache of jax_aiter; `jax-aiter kernels prune` may empty it.\n"
)


def mark(root: Path) -> None:
    """Make the cache's folder if there is none, and mark it as ours if there is nothing in it. OSError if that cannot be done.

    A folder with other things in it is used but never marked: see `is_marked`.
    """
    if is_marked(root):
        return
    disk.make_folder(root)
    if all(name.startswith(disk.TEMPORARY) for name in os.listdir(root)):
        disk.write_atomic(root / TAG, TEXT)


def is_marked(root: Path) -> bool:
    """Whether the folder was empty when it became our cache, so that what is in it is ours to remove."""
    try:
        return disk.read_plain(root / TAG, 4096, follow=False).startswith(TEXT)
    except OSError:
        return False


def others_can_write(root: Path, below: str = "") -> str | None:
    """Why what stands in the cache, or in a folder of it, may come from another user than this one and root; None if it cannot.

    Whoever may write to a folder above the cache can put another in its place, but for a sticky one like /tmp.
    """
    me = os.geteuid()
    root, path = Path(os.path.realpath(root)), Path(os.path.realpath(root / below))
    for folder in (path, *path.parents):
        try:
            details = os.stat(folder)
        except OSError:
            continue  # not there (yet)
        if details.st_uid not in (0, me):
            return f"{folder} belongs to {_user(details.st_uid)}"
        sticky = folder in root.parents and details.st_mode & stat.S_ISVTX
        if details.st_mode & stat.S_IWOTH and not sticky:
            return f"everybody can write to {folder}"
        if details.st_mode & stat.S_IWGRP and not sticky and not _private(details.st_gid):
            return f"group {_group(details.st_gid)} can write to {folder}"
    return None


def _private(group: int) -> bool:
    """Whether a group is root's or has no other member than this user, as many systems make one for every user."""
    if group == 0:
        return True
    try:
        found, user = grp.getgrgid(group), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return found.gr_name == user.pw_name and set(found.gr_mem) <= {user.pw_name}


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
