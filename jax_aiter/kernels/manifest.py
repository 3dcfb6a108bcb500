"""The paths and hashes of the AITER files this package uses, at the pinned commit. Facts only, none of the contents."""

from __future__ import annotations

import functools
import hashlib
import lzma
from pathlib import Path

#: bytes of the sha256 that the manifest keeps per file.
HASH_BYTES = 16
MANIFEST = Path(__file__).parent / "manifest.txt.xz"


def file_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[: 2 * HASH_BYTES]


def is_wanted(name: str) -> bool:
    """Whether a file of AITER (path with forward slashes, from the repository's top) is one we use."""
    if name.startswith(("hsa/gfx942/", "hsa/gfx950/")):
        return name.endswith((".co", ".csv"))
    if name.startswith("aiter/configs/"):
        return name.endswith(".csv")
    if name.startswith("aiter/ops/triton/"):
        return name.endswith((".py", ".json"))
    return name.startswith("aiter/utility/triton/") and name.endswith(".py")


@functools.cache
def manifest() -> dict[str, str]:
    """Path to hash, for every wanted file of the pinned commit."""
    lines = lzma.decompress(MANIFEST.read_bytes()).decode().splitlines()
    return dict(reversed(line.split(" ", 1)) for line in lines)  # type: ignore[misc]


def encode_manifest(files: dict[str, str]) -> bytes:
    text = "".join(f"{value} {name}\n" for name, value in sorted(files.items()))
    return lzma.compress(text.encode(), preset=9)
