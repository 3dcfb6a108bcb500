"""What the AITER files that this package uses must be, at the pinned commit."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

from jax_aiter.kernels.known import AITER_COMMIT, file_hash, files_of, size_of

#: a file that only AITER has, used to find the top folder inside an archive.
LANDMARK = "aiter/ops/triton/__init__.py"


class Fact(NamedTuple):
    """What a file must be: the beginning of its sha256, in hexadecimal, and its length, so that no more of it need be read."""

    hash: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> Fact:
        return cls(file_hash(data), len(data))


@functools.cache
def manifest() -> Mapping[str, Fact]:
    """Path to fact, for every wanted file of the pinned commit."""
    return {name: Fact(value, size_of(value)) for name, value in files_of(AITER_COMMIT).items()}
