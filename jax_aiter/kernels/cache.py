"""The user's kernel cache: one directory shared by every process of the user, safe under concurrency and crashes.

Layout: `aiter/<commit>/` AITER's files, `plans/<arch>/<op>/<key>.json`, `kernels/<arch>/<key>.json` compiled kernels,
`code/<sha256>` code objects (zlib), `locks/`. Every file is written beside its place and renamed into it; every JSON
entry carries the hash of its body, every code object is named by its hash, so a torn or altered file is detected and
rebuilt. Standard library only: the recording worker uses this module in an environment without jax.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class CacheError(RuntimeError):
    """The cache directory cannot be used; the message names the directory and the remedy."""


def cache_root() -> Path:
    """JAX_AITER_CACHE, else $XDG_CACHE_HOME/jax_aiter, else ~/.cache/jax_aiter."""
    if explicit := os.environ.get("JAX_AITER_CACHE"):
        return Path(explicit).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "jax_aiter"


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space (`jax-aiter kernels prune`), or set JAX_AITER_CACHE to a directory with room"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "make it writable, or set JAX_AITER_CACHE to a writable directory"
        else:
            remedy = "set JAX_AITER_CACHE to a usable directory"
        raise CacheError(f"kernel cache {path}: {error.strerror or error}; {remedy}") from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that other processes see the old file, no file, or all of the new one."""
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


@contextlib.contextmanager
def locked(root: Path, name: str) -> Iterator[None]:
    """Hold the lock `name`. It is a kernel file lock: it goes with the process that dies."""
    path = root / "locks" / f"{name}.lock"
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    """JSON with one spelling per value, for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def write_entry(path: Path, body: Any) -> None:
    """Store a JSON value with the hash of its text."""
    write_atomic(path, canonical({"sha256": digest(canonical(body)), "body": body}))


def read_entry(path: Path) -> Any | None:
    """The stored value; None if there is none. A damaged entry is removed and counts as none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        remedy = "make it readable or set JAX_AITER_CACHE to a usable directory"
        raise CacheError(f"kernel cache {path}: {error.strerror}; {remedy}") from error
    try:
        stored = json.loads(data)
        body = stored["body"]
        if digest(canonical(body)) == stored["sha256"]:
            return body
    except (ValueError, KeyError, TypeError):
        body = None  # falls through: not what write_entry wrote
    _remove(path)
    return None


def put_code(root: Path, code: bytes) -> str:
    """Store a code object under its sha256; identical ones are stored once."""
    name = digest(code)
    path = root / "code" / name
    if get_code(root, name) is None:
        write_atomic(path, zlib.compress(code, 9))
    return name


def get_code(root: Path, name: str) -> bytes | None:
    """The code object with this sha256; None if missing. A damaged one is removed and counts as missing."""
    path = root / "code" / name
    try:
        code = zlib.decompress(path.read_bytes())
    except FileNotFoundError:
        return None
    except zlib.error:
        code = b""
    if digest(code) == name:
        return code
    _remove(path)
    return None


def _remove(path: Path) -> None:
    with _explained(path), contextlib.suppress(FileNotFoundError):
        path.unlink()
