"""Writes the manifest from a checkout of the pinned commit: python -m jax_aiter.kernels.manifest_build PATH.

Only a maintainer who moves the pin runs this.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jax_aiter.kernels.manifest import MANIFEST, encode_manifest, file_hash, is_wanted
from jax_aiter.kernels.store_source import open_source


def main(path: str) -> None:
    with open_source(Path(path), is_wanted) as files:
        hashes = {name: file_hash(data) for name, data in files}
    MANIFEST.write_bytes(encode_manifest(hashes))
    print(f"{len(hashes)} files, {MANIFEST.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
