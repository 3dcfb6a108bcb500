"""Files that other processes, or other people, may be changing: bounded reads of plain files, writes that are whole or none."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from pathlib import Path


def open_plain(path: Path | str, *, folder: int | None = None, follow: bool = True) -> int:
    """A descriptor to read a plain file with, never waiting for the other end of a pipe.

    folder: a directory's descriptor that `path` is relative to. follow: whether `path` may be a link. OSError as of `open`, and
    with EINVAL for what is no plain file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    handle = os.open(path, flags, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        kind = "Is a directory" if os.path.isdir(path) else "Not a plain file"
        raise OSError(errno.EINVAL, kind, str(path))
    return handle


def read_plain(path: Path | str, limit: int, *, folder: int | None = None, follow: bool = True) -> bytes:
    """The contents of a plain file; OSError with EFBIG if it has more than `limit` bytes, else as `open_plain`."""
    with os.fdopen(open_plain(path, folder=folder, follow=follow), "rb") as file:
        data = b"" if os.fstat(file.fileno()).st_size > limit else file.read(limit + 1)
        if len(data) > limit or os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"File has more than the {limit} bytes it may have", str(path))
    return data


TEMPORARY = ".tmp-"


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that other processes see the old file, no file, or all of the new one.

    While it is written the new file has another name and this process's lock, by which `sweep` tells it from one that a killed
    process left.
    """
    make_folder(path.parent)
    handle, temporary = _locked_temporary(path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are not there, whatever the umask for this user alone."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def _locked_temporary(folder: Path) -> tuple[int, str]:
    while True:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=TEMPORARY)
        with contextlib.suppress(OSError):  # a file system without locks: nothing is swept there either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, temporary
        os.close(handle)  # a sweep came between the two


def sweep(folder: Path) -> int:
    """Remove the temporary files in `folder` that no process is writing any more. Returns their bytes."""
    freed = 0
    for path in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):  # not ours to open, or gone by now
            handle = open_plain(path, follow=False)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                freed += os.fstat(handle).st_size
                os.unlink(path)
            finally:
                os.close(handle)
    return freed
