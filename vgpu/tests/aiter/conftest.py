"""AITER's code objects launched directly. They are not part of this repository: without them these tests skip."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "isa")]

from machine import Machine, library_path


def aiter_root() -> Path | None:
    """The folder that holds hsa/: AITER_ROOT, what `jax-aiter kernels add` left in the cache, or the installed package."""
    cache = Path(os.environ.get("JAX_AITER_CACHE", Path.home() / ".cache" / "jax_aiter"))
    candidates = [Path(os.environ["AITER_ROOT"])] if "AITER_ROOT" in os.environ else []
    candidates += sorted((cache / "aiter").glob("*"))
    package = importlib.util.find_spec("aiter_meta")
    candidates += [Path(folder) for folder in (package.submodule_search_locations or ())] if package is not None else []
    return next((c for c in candidates if (c / "hsa" / "gfx942").is_dir()), None)


@pytest.fixture(scope="session")
def hsa() -> Path:
    root = aiter_root()
    if root is None:
        pytest.skip("needs AITER's files: pip install amd-aiter, jax-aiter kernels add PATH, or AITER_ROOT=PATH")
    return root / "hsa"


@pytest.fixture(scope="session")
def machines() -> Callable[[str], Machine]:
    library, opened = library_path(), {}

    def get(arch: str) -> Machine:
        if arch not in opened:
            opened[arch] = Machine(arch, library)
        return opened[arch]

    return get
