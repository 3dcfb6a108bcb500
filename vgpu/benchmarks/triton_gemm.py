"""An FP8 product of 1024 x 1024 x 1024 by a Triton kernel on the virtual MI355X, in the figure that AMD's rocjitsu states its speed
in: the sum of wave-instructions over the seconds of the dispatch.

python vgpu/benchmarks/triton_gemm.py [--threads 1 2 4] [--arch gfx942] [--size 1024]        needs triton, numpy, ml_dtypes

CPU seconds are those of all threads: where others use the machine too, the clock says little.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests" / name) for name in ("isa", "triton")]

import ml_dtypes
import numpy as np
import triton_kernels as kernels
from compiling import compile_kernel
from machine import Machine

RUNS = 3
TILES = ((64, 64, 128), (128, 128, 128))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--arch", default="gfx950", choices=("gfx942", "gfx950"))
    parser.add_argument("--size", type=int, default=1024, metavar="N", help="a multiple of 128 (default: %(default)s)")
    asked = parser.parse_args()
    size = asked.size
    name, dtype = ("fp8e4nv", ml_dtypes.float8_e4m3fn) if asked.arch == "gfx950" else ("fp8e4b8", ml_dtypes.float8_e4m3fnuz)
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(size, size)).astype(dtype) for _ in range(2))
    want = a.astype(np.float32) @ b.astype(np.float32)
    machine = Machine(asked.arch)
    operands = [machine.array(x.view(np.uint8)) for x in (a, b)] + [machine.array(np.zeros((size, size), np.float32))]
    arguments = struct.pack("<3Q3i4x2Q", *(x.pointer for x in operands), size, size, size, 0, 0)
    signature = {"a_ptr": f"*{name}", "b_ptr": f"*{name}", "c_ptr": "*fp32", "m": "i32", "n": "i32", "k": "i32"}
    print("| tile | threads | wave-instructions | seconds | M wave-instructions/s | CPU seconds |")
    print("|---|--:|--:|--:|--:|--:|")
    for m, n, k in TILES:
        compiled = compile_kernel(kernels.matmul, asked.arch, signature, {"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k}, num_warps=4)
        module = machine.load(compiled.image)
        for threads in asked.threads:
            found = []
            for _ in range(RUNS):
                cpu, wall = time.process_time(), time.perf_counter()
                counts = machine.launch(module, compiled.name, arguments, grid=(size // m, size // n, 1),
                                        block=(64 * compiled.warps, 1, 1), lds=compiled.shared, threads=threads)  # fmt: skip
                found.append((time.perf_counter() - wall, time.process_time() - cpu, counts[2]))
            # Products of 8-bit floats are exact; sums of them differ by their order alone.
            np.testing.assert_allclose(operands[2].numpy(), want, rtol=0, atol=size * 2.0**-23 * np.abs(want).max())
            seconds, used = (statistics.median(f[i] for f in found) for i in (0, 1))
            count = found[0][2]
            rate = count / seconds * 1e-6
            print(f"| {m}x{n}x{k} | {threads} | {count:,} | {seconds:.3g} | {rate:.3g} | {used:.3g} |", flush=True)


if __name__ == "__main__":
    main()
