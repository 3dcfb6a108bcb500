"""Where AITER's files are. Found cheaply, without importing AITER, and never with a GPU.

In this order: the folder that JAX_AITER_SOURCE or ``config(source=...)`` names; what `kernels add` brought into the cache; an
installed package. Which release it is does not matter here: every file is trusted by its content, when it is read.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path

from jax_aiter.core.config import config
from jax_aiter.core.text import one_line
from jax_aiter.kernels.cache import CacheError, DamagedError, cache_root, explained, load_entry
from jax_aiter.kernels.known import AITER_COMMIT
from jax_aiter.kernels.known_sources import FOLDERS
from jax_aiter.kernels.manifest import LANDMARK
from jax_aiter.kernels.marker import others_can_write
from jax_aiter.kernels.store.installed import META, installed

NOWHERE = "AITER's files were not found; install amd-aiter, or add a checkout with `jax-aiter kernels add PATH`"
ADD_AGAIN = "run `jax-aiter kernels add PATH` again"
#: what the folder of a copy begins with: all its files are known, or some were taken as they are.
KNOWN, UNVERIFIED = "known-", "unverified-"
#: files that are where somebody else put them: each is looked up by its content, or (on request) taken as it is.
BY_CONTENT, AS_IT_IS = "by content", "as it is"
#: folders of the repository's top that a package has below `aiter_meta`.
APART = ("hsa", *FOLDERS)
_IDENTITY = re.compile(rf"{AITER_COMMIT}|(?:{KNOWN}|{UNVERIFIED})[0-9a-f]{{32}}")


class NoSourceError(CacheError):
    """The folder that the settings name holds no AITER."""


@dataclasses.dataclass(frozen=True)
class Location:
    """A folder with AITER's files, and how far its contents can be trusted.

    What is read there goes through `jax_aiter.kernels.store.files`, which compares every file with what it should be.
    """

    path: Path  # holds `aiter/`
    source: str  # "setting", "cache" or "package"
    identity: str  # by what its files are compared: the pinned commit, the name of a list in the cache, or their content
    doubt: str | None  # why not everything here can be trusted, None if it can
    meta: Path | None = None  # holds `hsa/` and the C++ sources where `path` does not: a package's `aiter_meta`

    @property
    def verified(self) -> bool:
        """Only files that are known are used, and nobody else can put plans of others beside them."""
        return self.doubt is None

    @property
    def state(self) -> str:
        return "verified" if self.doubt is None else f"NOT verified: {self.doubt}"

    def place(self, name: str) -> Path:
        """Where a file or folder lies whose name is seen from the repository's top."""
        return (self.path if self.meta is None or name.partition("/")[0] not in APART else self.meta) / name

    def holds(self, name: str) -> bool:
        """Whether there is such a file or folder, whatever is in it."""
        return self.place(name).exists()


def entry(root: Path) -> Path:
    """The file that names the copy in use."""
    return root / "aiter" / "current.json"


def listing(root: Path, identity: str) -> Path:
    """The file that says what the files of a copy were when they were added."""
    return root / "aiter" / f"{identity}.json"


def aiter_location(root: Path | None = None) -> Location | None:
    """Where AITER is, None if it is nowhere. CacheError if the cache cannot be read, or a setting names a folder without AITER."""
    if config.source is not None:
        return _named(config.source)
    return _in_cache(root or cache_root()) or _package()


def plans_of(root: Path, identity: Callable[[Location], str]) -> str:
    """Of which AITER plans are looked for: the one that is found, else (plans were brought along without it) the pinned commit."""
    location = aiter_location(root)
    return AITER_COMMIT if location is None else identity(location)


def _in_place(path: Path, source: str, meta: Path | None) -> Location:
    doubt = "files that no known release has are taken as they are, as JAX_AITER_UNVERIFIED asks" if config.unverified else None
    return Location(path, source, AS_IT_IS if config.unverified else BY_CONTENT, doubt, meta)


def _named(text: str) -> Location:
    try:
        path = Path(text).expanduser().absolute()
        if (path / LANDMARK).is_file():
            apart = (path / META / "hsa").is_dir() and not (path / "hsa").is_dir()
            return _in_place(path, "setting", path / META if apart else None)
        what = "holds no AITER" if path.is_dir() else "is not a folder" if path.exists() else "does not exist"
    except (OSError, RuntimeError, ValueError) as error:
        what = f"cannot be read ({error})"
    raise NoSourceError(
        f"JAX_AITER_SOURCE: {one_line(text)} {what}; it must name a folder with {LANDMARK} in it, of a checkout or of installed "
        "packages"
    )


def _package() -> Location | None:
    found = installed()
    return None if found is None else _in_place(found.path, "package", found.meta)


def _in_cache(root: Path) -> Location | None:
    stored = load_entry(entry(root))
    if stored is None:
        return None
    identity = stored.get("identity") if isinstance(stored, dict) else None
    if not isinstance(identity, str) or not _IDENTITY.fullmatch(identity):
        raise DamagedError(f"kernel cache {entry(root)}: it names no copy of AITER; {ADD_AGAIN}")
    with explained(root):
        try:
            os.stat(root / "aiter" / identity / LANDMARK)
        except (FileNotFoundError, NotADirectoryError):
            return None
    return in_cache(root, identity)


def in_cache(root: Path, identity: str) -> Location:
    """The copy of that identity in the cache."""
    doubt = others_can_write(root, f"aiter/{identity}")
    if identity.startswith(UNVERIFIED):
        doubt = "files that no known release has were taken as they are"
    return Location(root / "aiter" / identity, "cache", identity, doubt)
