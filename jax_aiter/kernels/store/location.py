"""Where AITER's files are: copies in the user's cache, or an installed `amd-aiter`. Found cheaply, and never with a GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import re
from pathlib import Path

from jax_aiter.kernels.cache import DamagedError, cache_root, explained, load_entry
from jax_aiter.kernels.known import AITER_COMMIT
from jax_aiter.kernels.manifest import LANDMARK
from jax_aiter.kernels.marker import others_can_write

ADD_AGAIN = "run `jax-aiter kernels add PATH` again"
UNVERIFIED = "unverified-"
IDENTITY = re.compile(rf"{AITER_COMMIT}|{UNVERIFIED}[0-9a-f]{{32}}")


@dataclasses.dataclass(frozen=True)
class Location:
    """AITER's top folder (it holds `aiter/` and perhaps `hsa/`), and how far its contents can be trusted.

    What is read there goes through `jax_aiter.kernels.store.files`, which compares every file with what it should be.
    """

    path: Path
    source: str  # "cache" or "amd-aiter"
    identity: str  # the pinned commit, or something that differs from it: part of every plan's key
    doubt: str | None  # why not everything here can be trusted, None if it can

    @property
    def verified(self) -> bool:
        """The files are the pinned commit's, and nobody else can put plans of others beside them."""
        return self.doubt is None

    @property
    def state(self) -> str:
        return "verified" if self.doubt is None else f"NOT verified: {self.doubt}"


def entry(root: Path) -> Path:
    """The file that names the copy in use."""
    return root / "aiter" / "current.json"


def listing(root: Path, identity: str) -> Path:
    """The file that says what the files of an unverified copy were when they were added."""
    return root / "aiter" / f"{identity}.json"


def aiter_location(root: Path | None = None) -> Location | None:
    """AITER as added to the cache, else as installed in this environment, else None. CacheError if the cache cannot be read."""
    return _in_cache(root or cache_root()) or _installed()


def _in_cache(root: Path) -> Location | None:
    stored = load_entry(entry(root))
    if stored is None:
        return None
    identity = stored.get("identity") if isinstance(stored, dict) else None
    if not isinstance(identity, str) or not IDENTITY.fullmatch(identity):
        raise DamagedError(f"kernel cache {entry(root)}: it names no copy of AITER; {ADD_AGAIN}")
    with explained(root):
        try:
            os.stat(root / "aiter" / identity / LANDMARK)
        except (FileNotFoundError, NotADirectoryError):
            return None
    return in_cache(root, identity)


def in_cache(root: Path, identity: str) -> Location:
    doubt = others_can_write(root, f"aiter/{identity}")
    if identity != AITER_COMMIT:
        doubt = "its files differ from the pinned commit's"
    return Location(root / "aiter" / identity, "cache", identity, doubt)


def _installed() -> Location | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        # AITER's distribution is "amd-aiter"; the package called "aiter" on PyPI is something else.
        distribution = importlib.metadata.distribution("amd-aiter")
        path = Path(str(distribution.locate_file("")))
        if (path / LANDMARK).is_file():
            return Location(path, "amd-aiter", f"amd-aiter-{distribution.version}", "an installed package is not compared yet")
    return None
