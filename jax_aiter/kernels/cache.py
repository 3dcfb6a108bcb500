"""The user's kernel cache: one directory shared by every process of the user, safe under concurrency and crashes.

Layout: `aiter/<commit>/` AITER's files, `plans/<arch>/<op>/<key>.json`, `kernels/<arch>/<key>.json` compiled kernels,
`code/<sha256>` code objects (zlib), `locks/`. Every file is written beside its place and renamed into it; every JSON
entry carries the hash of its body, every code object is named by its hash, so a torn or altered file is detected and
rebuilt. Reading changes nothing: what is damaged counts as absent, until it is written anew or pruned.
Standard library only: the recording worker uses this module in an environment without jax.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax_aiter.core.text import one_line
from jax_aiter.kernels import disk
from jax_aiter.kernels.marker import mark

#: bytes of a JSON entry, and of a code object as stored and as unpacked: a hundred times the largest seen.
LARGEST_ENTRY, LARGEST_CODE = 16 << 20, 64 << 20


class CacheError(RuntimeError):
    """The cache directory cannot be used; the message names the directory and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class DamagedError(CacheError):
    """Something in the cache is not what was written there."""


def cache_root() -> Path:
    """JAX_AITER_CACHE, else $XDG_CACHE_HOME/jax_aiter, else ~/.cache/jax_aiter. CacheError if there is no such home."""
    try:
        if explicit := os.environ.get("JAX_AITER_CACHE"):
            return Path(explicit).expanduser()
        base = os.environ.get("XDG_CACHE_HOME")
        return (Path(base) if base else Path.home() / ".cache") / "jax_aiter"
    except RuntimeError as error:
        named = os.environ.get("JAX_AITER_CACHE", "~/.cache/jax_aiter")
        raise CacheError(f"kernel cache {named}: {error}; set JAX_AITER_CACHE to a usable directory") from error


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what the system says of a path in the cache into a CacheError with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space (`jax-aiter kernels prune`), or set JAX_AITER_CACHE to a directory with room"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "give yourself access to it, make it writable, or set JAX_AITER_CACHE to a writable directory"
        else:
            remedy = "set JAX_AITER_CACHE to a usable directory"
        raise CacheError(f"kernel cache {path}: {error.strerror or error}; {remedy}") from error


def write_atomic(path: Path, data: bytes) -> None:
    """As `disk.write_atomic`; CacheError names the remedy."""
    with explained(path):
        disk.write_atomic(path, data)


@contextlib.contextmanager
def locked(root: Path, name: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock `name`, alone or with whoever else shares it. It is a kernel file lock: it goes with the process that dies."""
    path = root / "locks" / f"{name}.lock"
    with explained(path):
        mark(root)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with explained(path):
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
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


def load_entry(path: Path) -> Any | None:
    """The stored value; None if there is none. DamagedError if the file is not what `write_entry` wrote."""
    with explained(path):
        try:
            data = disk.read_plain(path, LARGEST_ENTRY)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.EFBIG, errno.EINVAL):
                raise DamagedError(f"kernel cache {path}: {error.strerror}") from error
            raise
    try:
        stored = json.loads(data)
        body = stored["body"]
        if digest(canonical(body)) == stored["sha256"]:
            return body
    except (ValueError, KeyError, TypeError, RecursionError):
        body = None  # falls through: not what write_entry wrote
    raise DamagedError(f"kernel cache {path}: damaged, its contents do not have their hash")


def read_entry(path: Path) -> Any | None:
    """The stored value; None if there is none, or a damaged one."""
    try:
        return load_entry(path)
    except DamagedError:
        return None


def put_code(root: Path, code: bytes) -> str:
    """Store a code object under its sha256; identical ones are stored once."""
    name = digest(code)
    if get_code(root, name) is None:
        with explained(root):
            mark(root)
        write_atomic(root / "code" / name, zlib.compress(code, 9))
    return name


def get_code(root: Path, name: str) -> bytes | None:
    """The code object with this sha256; None if it is missing or damaged."""
    path = root / "code" / name
    with explained(path):
        try:
            packed = disk.read_plain(path, LARGEST_CODE)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.EFBIG, errno.EINVAL):
                return None
            raise
    decoder = zlib.decompressobj()
    try:
        code = decoder.decompress(packed, LARGEST_CODE)
    except zlib.error:
        return None
    return code if decoder.eof and digest(code) == name else None


def named_code(root: Path, entry: Any, field: str) -> bytes | None:
    """The code that an entry, as `read_entry` gave it, names in a field; None if it names none, or as `get_code`."""
    name = entry.get(field) if isinstance(entry, dict) else None
    return get_code(root, name) if isinstance(name, str) and len(name) == 64 and name.isalnum() else None
