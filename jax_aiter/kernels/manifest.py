"""The paths and hashes of the AITER files this package uses, at the pinned commit."""

from __future__ import annotations

from collections.abc import Mapping

from jax_aiter.kernels.known import AITER_COMMIT, HASH_BYTES, file_hash, files_of, is_wanted

__all__ = ["HASH_BYTES", "file_hash", "is_wanted", "manifest"]


def manifest() -> Mapping[str, str]:
    """Path to hash, for every wanted file of the pinned commit."""
    return files_of(AITER_COMMIT)
