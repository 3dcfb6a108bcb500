"""Where AITER's files are: verified copies in the user's cache, or an installed `amd-aiter`.

`add_aiter` checks every file against the manifest and copies it; `aiter_location` finds what is there, cheaply, and
never needs a GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from jax_aiter.kernels.cache import CacheError, cache_root, digest, locked, read_entry, write_entry
from jax_aiter.kernels.manifest import file_hash, is_wanted, manifest
from jax_aiter.kernels.store_source import AITER_COMMIT, LANDMARK, SourceError, open_source

__all__ = ["AITER_COMMIT", "Location", "SourceError", "VerificationError", "add_aiter", "aiter_location", "verify"]


class VerificationError(ValueError):
    """Files differ from the pinned commit's; the message counts them and names the first."""


@dataclasses.dataclass(frozen=True)
class Location:
    """AITER's top folder (it holds `aiter/` and perhaps `hsa/`), and how far its contents can be trusted."""

    path: Path
    source: str  # "cache" or "amd-aiter"
    identity: str  # the pinned commit, or something that differs from it: part of every plan's key
    verified: bool


def _entry(root: Path) -> Path:
    return root / "aiter" / "current.json"


def aiter_location(root: Path | None = None) -> Location | None:
    """AITER as added to the cache, else as installed in this environment, else None."""
    root = root or cache_root()
    stored = read_entry(_entry(root))
    if stored is not None and (root / "aiter" / stored["folder"] / LANDMARK).is_file():
        return Location(root / "aiter" / stored["folder"], "cache", stored["identity"], stored["verified"])
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        # AITER's distribution is "amd-aiter"; the package called "aiter" on PyPI is something else.
        distribution = importlib.metadata.distribution("amd-aiter")
        path = Path(str(distribution.locate_file("")))
        if (path / LANDMARK).is_file():
            return Location(path, "amd-aiter", f"amd-aiter-{distribution.version}", False)
    return None


def add_aiter(
    path: Path, *, unverified: bool = False, root: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Location:
    """Verify the AITER files at `path` against the manifest and copy them into the cache.

    path: a checkout, a git directory (the pinned commit is read from it), or a tar or zip archive.
    unverified: accept files that differ from the manifest; plans made from them are kept apart.
    progress: called with (files done, files expected).
    Raises SourceError (no AITER there), VerificationError (files differ or are missing), CacheError.
    """
    root = root or cache_root()
    expected = manifest()
    with locked(root, "aiter"):
        (root / "aiter").mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=root / "aiter", prefix=".tmp-"))
        try:
            found = _stage(path, staging, len(expected), progress)
            wrong = sorted(name for name, value in expected.items() if found.get(name, value) != value)
            missing = sorted(expected.keys() - found.keys())
            extra = sorted(found.keys() - expected.keys())
            if (wrong or missing or extra) and not unverified:
                raise VerificationError(_difference(path, wrong, missing, extra))
            if not (staging / LANDMARK).is_file():
                raise SourceError(f"{path} holds no AITER: there is no {LANDMARK} in it")
            verified = not (wrong or missing or extra)
            tree = digest("".join(f"{n} {h}\n" for n, h in sorted(found.items())).encode())
            identity = AITER_COMMIT if verified else f"unverified-{tree[:16]}"
            _replace(staging, root / "aiter" / identity)
            write_entry(_entry(root), {"folder": identity, "identity": identity, "verified": verified})
        except OSError as error:
            raise CacheError(
                f"kernel cache {root}: {error.strerror or error}; set JAX_AITER_CACHE to a writable directory with room"
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return Location(root / "aiter" / identity, "cache", identity, verified)


def _stage(path: Path, staging: Path, total: int, progress: Callable[[int, int], None] | None) -> dict[str, str]:
    found = {}
    with open_source(path, is_wanted) as files:
        for name, data in files:
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            found[name] = file_hash(data)
            if progress is not None:
                progress(len(found), total)
    return found


def _difference(path: Path, wrong: list[str], missing: list[str], extra: list[str]) -> str:
    parts = [
        f"{len(names)} {what} (first: {names[0]})"
        for what, names in (("changed", wrong), ("missing", missing), ("not part of it", extra))
        if names
    ]
    return (
        f"{path} is not AITER at commit {AITER_COMMIT}: {', '.join(parts)}. Check out that commit, or pass "
        "--unverified to use it as it is"
    )


def _replace(staging: Path, target: Path) -> None:
    """Put a complete folder in place. An existing one holds the same files by name of its identity, unless damaged."""
    if target.exists():
        doomed = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tmp-"))
        target.rename(doomed / "old")
        staging.rename(target)
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        staging.rename(target)


def verify(location: Location) -> list[str]:
    """Names of the manifest's files that are missing at `location` or differ there."""
    bad = []
    for name, value in manifest().items():
        try:
            if file_hash((location.path / name).read_bytes()) != value:
                bad.append(name)
        except OSError:
            bad.append(name)
    return bad
