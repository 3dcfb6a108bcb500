"""Each op against the best that a JAX user has without this package, on the present device, in one run:

    python -m benchmarks.peers --build --arch sm_90 --jobs 8    # first: what the kernels need, on any machine
    python -m benchmarks.peers --out DIR                        # then: prints the table, writes DIR/peers.json
    python -m benchmarks.peers --out DIR --resume --only topk_softmax,rope    # adds rows that DIR/peers.json has not
    python -m benchmarks.peers.report DIR/peers.json docs       # and from that docs/h200.md, its plot, and README's figures

Per row: ours as `implementation=None` chooses, our Triton kernel alone, and the peers (cuDNN, `jax.nn`, `ragged_dot`, gather +
attention, fp8 dots, plain `jax.numpy`), each in its own preferred layout and checked to give our numbers. Times are of the
device, by chains of calls inside one program (`jax_aiter.cli.bench.chain`); medians of rounds in turns. `--small`: tiny shapes, for
tests, on a CPU too: what it prints says nothing of speed. DIR/peers.json is written after every row, so that a run may be cut off:
with `--resume` rows measured there on the same device and with the same jax stay, and the others are measured; a row's limits are
those of its own run.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import jax

from benchmarks.h200 import trace
from benchmarks.peers import build
from benchmarks.peers.report import merged
from jax_aiter.cli.bench import limits, measure, rows, table
from jax_aiter.core.arch import FP8, arch_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", default="", help="comma-separated beginnings of row names")
    parser.add_argument("--resume", action="store_true", help="measure only what the file in --out has not")
    parser.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1), help="that compile, before anything is timed")
    parser.add_argument("--kernels", action="store_true", help="also file each form's kernels and their time, by the profiler")
    parser.add_argument("--build", action="store_true")
    parser.add_argument("--arch", default="sm_90", help="of --build")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--share", help=argparse.SUPPRESS)
    parser.add_argument("--compile", action="store_true", help="only compile, into JAX_COMPILATION_CACHE_DIR")
    options = parser.parse_args()
    if options.build and not options.share:
        narrowed = [*(["--small"] if options.small else []), "--only", options.only]
        raise SystemExit(1 if build.in_processes("benchmarks.peers", options.jobs, options.arch, *narrowed) else 0)
    arch = options.arch if options.build else arch_of(jax.devices()[0])
    wanted = (rows.small if options.small else rows.full)(FP8[arch or "sm_90"])
    if options.only:
        wanted = [row for row in wanted if row.name.startswith(tuple(options.only.split(",")))]
    if options.build:
        raise SystemExit(1 if build.share(wanted, options.arch, options.share) else 0)
    if arch is None and not options.small:
        raise SystemExit("this machine has no GPU that jax can see; --small tries the command on a CPU")
    if options.compile:
        raise SystemExit(compiled(wanted, arch, options.small, options.threads))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "peers.json"
    before = kept(path, about(arch, options.small)) if options.resume else None
    report = run(wanted, arch, options.small, options.threads, path, options.kernels, before)
    print("\n".join(["", *table.summary(report)]))
    raise SystemExit(1 if any("failed" in row for row in report["rows"]) else 0)


def compiled(wanted: list[Any], arch: str | None, small: bool, threads: int) -> int:
    """Compiles what `run` will, so that it finds the programs in JAX's persistent cache."""
    start = time.monotonic()
    made = measure.compile_all(wanted, rates_of(wanted, small, arch), arch, threads)
    failed = [f"{name}, {form}: {p.failed}" for name, programs in made.items() for form, p in programs.forms.items() if p.failed]
    print("\n".join([*failed, f"{len(made)} rows compiled in {time.monotonic() - start:.0f} s, {len(failed)} forms cannot"]))
    return 0


def rates_of(wanted: list[Any], small: bool, arch: str | None) -> dict[str, Any]:
    return limits.measure(sorted({row.rate for row in wanted} | {"bfloat16"}), limits.SMALL if small else limits.FULL, arch)


def by_kernel(run: Any, calls: int) -> list[tuple[str, float, float]]:
    return trace.by_kernel(trace.with_jax(lambda: jax.block_until_ready(run())), calls)


def about(arch: str | None, small: bool) -> dict[str, Any]:
    return {"device": jax.devices()[0].device_kind, "arch": arch, "jax": jax.__version__, "small": small}


def kept(path: Path, same: dict[str, Any]) -> dict[str, Any] | None:
    """The report at `path` without the rows that failed; None if there is none. ValueError if it is of another device or jax."""
    if not path.exists():
        return None
    before = json.loads(path.read_text())
    if other := {name: before.get(name) for name, value in same.items() if before.get(name) != value}:
        raise ValueError(f"{path} is of {other}, this run of {same}: --resume goes on with the same, or give another --out")
    return {**before, "rows": [row for row in before["rows"] if "failed" not in row]}


def run(
    wanted: list[Any],
    arch: str | None,
    small: bool,
    threads: int,
    path: Path,
    kernels: bool,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """before: a report whose rows are not measured again, and stay in what is written."""
    known = {row["name"] for row in before["rows"]} if before else set()
    wanted = [row for row in wanted if row.name not in known]
    if before and not wanted:
        return before
    rates = rates_of(wanted, small, arch)
    report: dict[str, Any] = {**about(arch, small), "limits": rates, "rows": []}

    def whole(done: list[dict[str, Any]]) -> dict[str, Any]:
        return merged([*([before] if before else []), {**report, "rows": done}])

    def filed(done: list[dict[str, Any]]) -> None:
        path.write_text(json.dumps(whole(done), indent=1))
        print(table.progress(done[-1]), flush=True)

    return whole(measure.all_rows(wanted, rates, arch, threads, filed, by_kernel if kernels else None))


if __name__ == "__main__":
    main()
