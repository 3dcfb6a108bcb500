"""Copies what a machine without network needs into one folder: plans, code objects and AITER's Triton sources.

    python -m benchmarks.h200.pack FOLDER        then there:  JAX_AITER_CACHE=FOLDER python -m benchmarks.h200.run

The folder holds AITER's files: carry it along, never commit it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from jax_aiter.kernels.cache import cache_root


def main(folder: Path) -> None:
    def skip(path: str, names: list[str]) -> set[str]:
        # the assembly kernels, the tuned tables for them and the locks stay here
        return {name for name in names if name in ("hsa", "locks") or (name == "configs" and Path(path).name == "aiter")}

    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(cache_root(), folder, ignore=skip)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
