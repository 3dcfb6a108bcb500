"""AITER's C++ sources, known by their content as its other files are (see `known`), in a list of their own.

What the HIP provider compiles is AITER's kernels, their host functions, and of Composable Kernel the headers and the four
examples that they use; and the scripts by which AITER's build writes the instances of Composable Kernel's GEMMs and of its layer
normalisation are run. The list
(`known_sources.txt.xz`, which ``python -m jax_aiter.kernels.known_build`` writes) covers those of every tagged release, of
`AITER_COMMIT` and of the packages on PyPI; Composable Kernel is a submodule of AITER's repository, so of it the packages' alone.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from jax_aiter.kernels.known import Table, read_table

SOURCES = Path(__file__).with_name("known_sources.txt.xz")
#: where they lie, from AITER's top folder; a package has both below ``aiter_meta``.
FOLDERS = ("csrc", "3rdparty")
_KERNELS = "3rdparty/composable_kernel"
_WANTED = re.compile(
    rf"(?:csrc|3rdparty/ck_helper|{_KERNELS}/(?:library/)?include|{_KERNELS}/example/ck_tile/(?:02|09|10|13)[^/]*)/.*"
    r"\.(?:cu|cuh|h|hpp|cpp|inc|jinja)"
    r"|csrc/ck_[^/]*/[^/]*\.py"
    rf"|{_KERNELS}/example/ck_tile/02_layernorm2d/generate\.py"
)


def is_source(name: str) -> bool:
    """Whether a file of AITER (path with forward slashes, from the repository's top) is one that is compiled."""
    return _WANTED.fullmatch(name) is not None


def is_known_source(name: str, hash: str) -> bool:
    """Whether a release of AITER has a source of that name and content."""
    return any(name == place for place, _ in _table().places.get(hash, ()))


@functools.cache
def _table() -> Table:
    return read_table(SOURCES)
