"""AITER as a package of this environment: `amd-aiter` from PyPI, `aiter` of ROCm's and vLLM's images, or an editable checkout.

Its two halves are the packages `aiter` (Python) and `aiter_meta` (code objects and their tables); an editable checkout has both in
one folder. They are found as an import would find them, and not imported: that takes seconds, and may build extensions. PyPI's
own `aiter` is another library; what is AITER's has Triton kernels in it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.util
import sys
import zipfile
from pathlib import Path

from jax_aiter.kernels.manifest import LANDMARK

META = "aiter_meta"
DISTRIBUTIONS = ("amd-aiter", "amd_aiter", "aiter")


@dataclasses.dataclass(frozen=True)
class Installed:
    """path: the folder that holds `aiter/`. meta: the one that holds `hsa/`, None if that is the same one or there is none."""

    path: Path
    meta: Path | None


def installed() -> Installed | None:
    """None if there is no AITER, or only a part that cannot be read as files (see `why_not`)."""
    return _found(tuple(sys.path))


def why_not() -> str | None:
    """What was found of AITER that cannot be used, and what to do; None if there is nothing."""
    for folder in _folders("aiter"):
        archive = next((path for path in (folder, *folder.parents) if path.is_file()), None)
        if archive is not None and zipfile.is_zipfile(archive) and any(n.endswith(LANDMARK) for n in _names(archive)):
            return f"AITER is imported from the archive {archive}; run `jax-aiter kernels add {archive}`"
    if any((folder / "hsa").is_dir() for folder in _folders(META)) and installed() is None:
        return f"{META} is installed, but not the package aiter that belongs to it; install AITER again"
    return None


@functools.lru_cache(maxsize=8)
def _found(path: tuple[str, ...]) -> Installed | None:
    """Asked at every trace; `path` is sys.path, by which the answer may change."""
    for folder in _folders("aiter"):
        top = folder.parent
        if (top / LANDMARK).is_file():
            metas = [meta for meta in (*_folders(META), top / META) if (meta / "hsa").is_dir()]
            return Installed(top, None if (top / "hsa").is_dir() or not metas else metas[0])
    return None


def _folders(package: str) -> list[Path]:
    """The folders of a top-level package, which is not imported for that."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):  # a module that somebody made and put into sys.modules by hand
        spec = None
    return [Path(folder).absolute() for folder in (spec.submodule_search_locations or ())] if spec is not None else []


def _names(archive: Path) -> list[str]:
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.namelist()
    except (OSError, zipfile.BadZipFile):
        return []


def version(path: Path) -> str | None:
    """What the package in this folder calls itself, if it says so. Only to be shown: it decides nothing."""
    for name in DISTRIBUTIONS:
        try:
            found = importlib.metadata.distribution(name)
            if Path(str(found.locate_file(""))).absolute() == path or name.startswith("amd"):
                return found.version
        except (importlib.metadata.PackageNotFoundError, OSError, ValueError):
            continue
    return None
