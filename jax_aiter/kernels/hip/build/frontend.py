"""The compiler's front end on one source: AITER's host code as a shared library, its kernels as bitcode that nothing has optimised.

It runs once for a source, an architecture and a compiler; the cache keeps both results, compressed and by their hashes.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.cache import canonical, digest, locked, named_code, put_code, read_entry, write_entry
from jax_aiter.kernels.hip.build import commands, compilers
from jax_aiter.kernels.hip.build.source import Source

#: part of every key: raise it when the same sources are compiled in another way.
VERSION = 1
INCLUDE = Path(__file__).parents[1] / "include"


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """host: the shared library. bitcode: the module of all kernels. identity: what both were made from; plans are kept under it."""

    host: Path
    bitcode: Path
    identity: str


def identity(source: Source, arch: str) -> str:
    """Under what the front end of `source` is kept, without running it. KernelBuildError if there is no compiler."""
    parts = [VERSION, compilers.find().identity, shims(), source.files, source.identity, source.includes, arch]
    return digest(canonical(parts))[:40]


@functools.cache
def shims() -> str:
    """The hash of our own headers."""
    files = sorted(path for path in INCLUDE.rglob("*.h*") if path.is_file())
    return digest(canonical([[path.relative_to(INCLUDE).as_posix(), digest(path.read_bytes())] for path in files]))


def entry(root: Path, source: Source, arch: str) -> Path:
    """The file in the cache that names the results."""
    stem = source.files[0].rpartition("/")[2].partition(".")[0]
    return root / "hip" / arch / f"{stem}-{identity(source, arch)}.json"


def exists(source: Source, arch: str, root: Path) -> bool:
    """Whether it was compiled; nothing is read of it."""
    return entry(root, source, arch).is_file()


def front_end(source: Source, arch: str, root: Path) -> FrontEnd:
    """Compile, or take from the cache. Processes that want the same one compile it once.

    Raises KernelBuildError (no compiler, or what it says) and CacheError.
    """
    path = entry(root, source, arch)
    found = _kept(path, root)
    if found is None:
        with locked(root, "build", shared=True), locked(root, f"hip-{path.stem[:-33]}-{arch}"):
            found = _kept(path, root)  # another process, or thread, may have compiled it while this one waited
            if found is None:
                host, bitcode = _compile(source, arch)
                made = {"host": put_code(root, host), "bitcode": put_code(root, bitcode)}
                write_entry(path, {"folders": list(source.folders), "tree": source.tree, **made})  # by which `prune` goes
                found = _kept(path, root)
    if found is None:
        raise KernelBuildError(f"{path}: the cache lost what was just written to it")
    return found


def _compile(source: Source, arch: str) -> tuple[bytes, bytes]:
    compiler = compilers.find()
    with commands.workplace() as work:
        left_out = source.copy(work / "aiter")
        halves = (commands.host, commands.device)
        with ThreadPoolExecutor(2) as both:
            jobs = [both.submit(half, compiler, source, arch, work, INCLUDE) for half in halves]
        errors = [error for job in jobs if (error := job.exception()) is not None]
        if errors:
            unknown = f" ({len(left_out)} sources that no release has were left out, first {left_out[0]})" if left_out else ""
            raise KernelBuildError(f"AITER's {source.files[0]} was not compiled for {arch}: {errors[0]}{unknown}") from errors[0]
        host, bitcode = (job.result() for job in jobs)
        return host, bitcode


_unpacked: dict[Path, FrontEnd] = {}
_guard = threading.Lock()


@functools.cache
def _folder() -> Path:
    """Where this process keeps them as files: a loader and a compiler go by paths."""
    folder = Path(tempfile.mkdtemp(prefix="jax_aiter-hip-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _kept(path: Path, root: Path) -> FrontEnd | None:
    """What an entry names, as files; None if it is missing, damaged, or a half of it is."""
    with _guard:
        found = _unpacked.get(path) or _unpack(path, root)
        if found is not None:
            _unpacked[path] = found
        return found


def _unpack(path: Path, root: Path) -> FrontEnd | None:
    stored = read_entry(path)
    host, bitcode = (named_code(root, stored, half) for half in ("host", "bitcode"))
    if host is None or bitcode is None:
        return None
    try:
        stem = _folder() / path.stem
        stem.with_suffix(".so").write_bytes(host)
        stem.with_suffix(".bc").write_bytes(bitcode)
    except OSError as error:
        raise KernelBuildError(f"{error.filename}: {error.strerror}; compiled sources are unpacked there") from error
    return FrontEnd(stem.with_suffix(".so"), stem.with_suffix(".bc"), path.stem.rpartition("-")[2])
