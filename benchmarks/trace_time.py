"""How long the first trace of a call waits for its Triton kernels, and a later process's: python -m benchmarks.trace_time AITER.

    python -m benchmarks.trace_time PATH_OF_AITER --out docs/trace_time.md

AITER is a work tree at the pinned commit. Each figure is a process of its own that traces and lowers one call for an architecture;
no GPU is needed. Cold: no plan in the cache; a worker process is started, imports torch and triton, runs AITER's wrapper and
compiles its kernels. Warm: the plan is read from the cache. Both without the time to import jax. Needs torch and triton, or
JAX_AITER_TRITON_PYTHON.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5


def child(op: str, arch: str) -> dict[str, float | str]:
    """Seconds to trace and lower the first call of the table of timings, in this process."""
    import jax
    import numpy as np

    from benchmarks.h200.case import Shapes
    from benchmarks.h200.execute import runs_plan, through_op
    from benchmarks.h200.suite import timed

    case = next(entry.case for entry in timed(arch) if entry.case.op == op)
    arrays = case.make(Shapes(np.random.PCG64(0)))
    structs = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays.values()]
    jax.jit(lambda x: x + 1).trace(1.0).lower(lowering_platforms=("cpu",))  # what jax does once per process
    start = time.perf_counter()
    traced = through_op(case, arrays, arch, "triton").trace(*structs)
    lowered = traced.lower(lowering_platforms=("cuda" if arch.startswith("sm_") else "rocm",))
    seconds = time.perf_counter() - start
    if not runs_plan(lowered):
        raise RuntimeError(f"{case.label}: the lowered program holds no launch plan")
    return {"case": case.label, "seconds": seconds}


def measured(op: str, arch: str, environment: dict[str, str]) -> dict[str, float | str]:
    command = [sys.executable, "-m", "benchmarks.trace_time", "--child", op, "--arch", arch]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[dict], arch: str) -> str:
    import jax

    lines = [
        "# How long a trace waits for Triton kernels",
        "",
        f"Plans for {arch}, jax {jax.__version__}, Python {platform.python_version()}, {os.cpu_count()} CPU cores, no GPU: "
        "`python -m benchmarks.trace_time PATH_OF_AITER`.",
        "Cold: no plan in the cache; the time holds the worker's start and the compiler's. `jax-aiter kernels build` does this "
        f"ahead of time. Warm: a new process, the plan in the cache (median of {ROUNDS}). Hand-written kernels need no "
        "compiler: their plans take less than 5 ms.",
        "",
        "| call | cold, s | warm, ms |",
        "|---|---:|---:|",
        *(f"| {row['case']} | {row['cold']:.1f} | {1e3 * row['warm']:.0f} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("aiter", nargs="?", type=Path)
    parser.add_argument("--arch", default="gfx942")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.arch)))
        return
    if options.aiter is None:
        parser.error("a work tree of AITER is needed")
    from benchmarks.h200.suite import timed

    ops = list(dict.fromkeys(entry.case.op for entry in timed(options.arch)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAX_AITER_CACHE": f"{folder}/cache", "TRITON_CACHE_DIR": f"{folder}/triton"}
        add = "from jax_aiter.cli import main; main()"
        subprocess.run([sys.executable, "-c", add, "kernels", "add", str(options.aiter)], env=environment, check=True)
        for op in ops:
            cold = measured(op, options.arch, environment)
            warm = sorted(float(measured(op, options.arch, environment)["seconds"]) for _ in range(ROUNDS))[ROUNDS // 2]
            rows.append({"case": cold["case"], "cold": cold["seconds"], "warm": warm})
            print(f"{cold['case']:45} cold {cold['seconds']:6.1f} s, warm {1e3 * warm:6.0f} ms", flush=True)
    text = table(rows, options.arch)
    if options.out:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
