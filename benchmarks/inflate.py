"""The handler's own DEFLATE decoder against zlib, on AITER's code objects: python -m benchmarks.inflate

Medians of five passes over every 13th of gfx942's, one processor's time.
"""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Callable

from jax_aiter.kernels import _native
from jax_aiter.kernels.store import aiter_location


def seconds(unpack: Callable[[bytes, int], bytes], packed: list[bytes], sizes: list[int]) -> float:
    def once() -> float:
        start = time.process_time()
        for data, size in zip(packed, sizes, strict=True):
            unpack(data, size)
        return time.process_time() - start

    return statistics.median(once() for _ in range(5))


def main() -> None:
    where = aiter_location()
    if where is None:
        raise SystemExit("needs AITER's files: pip install 'jax_aiter[aiter]'")
    files = sorted((where.place("hsa") / "gfx942").rglob("*.co"))[::13]
    data = [path.read_bytes() for path in files]
    packed = []
    for code in data:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed.append(deflate.compress(code) + deflate.flush())
    sizes, ours = [len(code) for code in data], _native.load().testing.inflate
    print(f"{len(data)} code objects, {sum(sizes) / 1e6:.1f} MB, the largest {max(sizes) / 1e3:.0f} kB")
    for name, unpack in {"ours": ours, f"zlib {zlib.ZLIB_RUNTIME_VERSION}": lambda d, n: zlib.decompress(d, -15, n)}.items():
        if any(unpack(d, n) != code for d, n, code in zip(packed, sizes, data, strict=True)):
            raise SystemExit(f"{name} unpacks something else")
        print(f"{name}: {sum(sizes) / 1e6 / seconds(unpack, packed, sizes):.0f} MB/s")


if __name__ == "__main__":
    main()
