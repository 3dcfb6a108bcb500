"""Reads the files of a folder: a checkout, or what stands in the cache."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from jax_aiter.kernels.disk import read_plain
from jax_aiter.kernels.known_sources import FOLDERS
from jax_aiter.kernels.store.limits import DEPTH, FILE, Total, check_size
from jax_aiter.kernels.store.names import META, Once, SourceError, Wanted, is_plain


def read_folder(root: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """The wanted files below `root`. Links are not followed, neither those of files nor those of folders."""
    total, once = Total(root), Once(root)
    meta = "" if os.path.lexists(root / "hsa") else META
    for top in ("aiter", *(f"{meta}{name}" for name in ("hsa", *FOLDERS))):
        if not os.path.lexists(root / top):
            continue
        for folder, folders, files, handle in os.fwalk(root / top, follow_symlinks=False, onerror=_raise):
            here = os.path.relpath(folder, root).removeprefix(meta)
            folders[:] = sorted(name for name in folders if is_plain(f"{here}/{name}") and here.count("/") < DEPTH)
            for file in sorted(files):
                total.entry()
                name = f"{here}/{file}"
                if not is_plain(name) or not wanted(name):
                    continue
                once(name)
                details = os.stat(file, dir_fd=handle, follow_symlinks=False)
                if not stat.S_ISREG(details.st_mode):
                    raise SourceError(f"{root}: {name} is a link or a device; only plain files are read")
                check_size(root, name, details.st_size)
                data = read_plain(file, FILE, folder=handle, follow=False)
                total.taken(data)
                yield name, data


def _raise(error: OSError) -> None:
    raise error
