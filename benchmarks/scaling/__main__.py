"""Experts, decoding and training on one device and on more of them, in one run:

    python -m benchmarks.scaling --build --arch sm_90 --devices 1,2     # first: what the kernels need, on any machine
    python -m benchmarks.scaling --devices 1,2,4,8 --out DIR            # then: as many of these as there are; DIR/scaling.json
    python -m benchmarks.scaling.report DIR/scaling.json docs           # and from that docs/scaling.md and its plot

moe: fused_moe whose experts are spread over devices, by the exchange, by the masked sum and with `lax.ragged_dot` on the same mesh,
forward and with the gradient; and the exchange alone, without its experts. decode: tokens per second of Qwen3-30B-A3B cut to
`--layers` of its 48, heads and experts dealt out. train: a step of a model of a billion parameters as examples/train trains it, the
same batch on more devices (strong) and as many sequences on each (weak). Every result is held against that of one device.

Each part is a process; they measure one after the other. With JAX_COMPILATION_CACHE_DIR processes that share the devices' memory
compile all parts but the last ahead, and end. A row is written as soon as it is measured. `--small`: tiny shapes in float32, on
CPUs too: they say nothing of speed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax

from benchmarks import stepping
from benchmarks.model_step import measure
from benchmarks.peers import build
from benchmarks.scaling import decode, sizes, train, turns
from benchmarks.scaling.case import Part
from jax_aiter.core.arch import arch_of


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="1,2,4,8", help="comma-separated; those that there are too few for are left out")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--parts", default=",".join(sizes.PARTS))
    parser.add_argument("--layers", type=int, default=8, help="of Qwen3-30B-A3B's 48")
    parser.add_argument("--context", type=int, default=2048, help="tokens that each decoded sequence has")
    parser.add_argument("--threads", type=int, default=min(12, os.cpu_count() or 1), help="of each part, that compile")
    parser.add_argument(
        "--patience",
        type=float,
        help="seconds for compiling ahead; and then until what has its programs measures beside what has not",
    )
    parser.add_argument("--build", action="store_true", help="only build the kernels, for --arch, by --jobs processes")
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--share", help=argparse.SUPPRESS)
    parser.add_argument("--compile", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=sizes.PARTS, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def same(options: argparse.Namespace) -> list[str]:
    """The options that the command's processes need too."""
    given = ["--devices", options.devices, "--layers", str(options.layers), "--context", str(options.context)]
    return [*given, "--threads", str(options.threads), *(["--small"] if options.small else [])]


def ours(options: argparse.Namespace, chosen: dict[str, Part]) -> list[stepping.Ours]:
    cases = {name: case for part in chosen.values() for name, case in part.cases().items() if case.kernels}
    return [stepping.Ours(name, case.program, case.arguments) for name, case in cases.items()]


def one(options: argparse.Namespace) -> int:
    """The process of one part: compiles, waits, measures."""
    devices = sizes.available([int(n) for n in options.devices.split(",")])
    first = jax.devices()[0]
    memory = (first.memory_stats() or {}).get("bytes_limit")
    if arch_of(first) is None and not options.small:
        raise SystemExit("this machine has no GPU that jax can see; --small tries the command on a CPU")
    part = sizes.parts(devices, options.small, options.layers, options.context, memory)[options.part]
    late = options.part in sizes.LAST
    start = time.monotonic()
    made, prepared = ({}, None) if late else compiled(part, options)
    if options.compile:
        return 0
    failed = {name: why for name, why in made.items() if isinstance(why, str)}
    about = {"device": first.device_kind, "jax": jax.__version__, "there": jax.device_count()}
    turns.say(ready=time.monotonic() - start, programs=len(made), failed=failed, about=about)
    turns.wait()
    start = time.monotonic()
    if late:
        made, prepared = compiled(part, options)
    for row in part.rows(made, prepared):
        turns.say(row={**row, "at": time.monotonic() - start})
    return 0


def compiled(part: Part, options: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """By case the program, or why there is none; and what the part prepares meanwhile, unless it is only compiled."""
    cases = part.cases()
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        preparing = None if options.compile else beside.submit(part.prepare)
        made = measure.compiled({name: case.lower for name, case in cases.items()}, options.threads)
        return made, preparing.result() if preparing else None


def ahead(command: list[str], parts: list[str], patience: float | None) -> None:
    """Processes that fill JAX_COMPILATION_CACHE_DIR, and end: what XLA tries out on a device takes memory that a process keeps."""
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / len(parts):.2f}"}
    start = time.monotonic()
    running = {part: subprocess.Popen([*command, "--part", part, "--compile"], env={**os.environ, **share}) for part in parts}
    for part, process in running.items():
        left = None if patience is None else max(0.0, start + patience - time.monotonic())
        try:
            status = process.wait(left)
        except subprocess.TimeoutExpired:  # what is not compiled yet is compiled by who measures
            process.kill()
            status = process.wait()
        print(f"{part}: compiled with status {status} after {time.monotonic() - start:.0f} s", flush=True)


def run(options: argparse.Namespace, path: Path) -> int:
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.scaling {' '.join(sys.argv[1:])}".strip(),
        "small": options.small,
        "decode": decode.describe(sizes.decoder([1], options.small, options.layers, options.context).size),
        "train": train.describe(sizes.learner([1], options.small)),
        "rows": [],
    }

    def heard(name: str, what: Any) -> None:
        if "row" in what:
            row = {**what.pop("row"), **what}
            report["rows"].append(row)
            print({key: value for key, value in row.items() if key not in ("quartiles", "bits")}, flush=True)
        else:
            report.update(what.pop("about"))
            report.setdefault("compiled", {})[name] = what
            print(f"{name}: {what['programs']} programs in {what['ready']:.0f} s, not compiled: {what['failed']}", flush=True)
        path.write_text(json.dumps(report, indent=1))

    command = [sys.executable, "-m", "benchmarks.scaling", *same(options)]
    parts = options.parts.split(",")
    if (first := [part for part in parts if part not in sizes.LAST]) and os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        ahead(command, first, options.patience)
    statuses = turns.take({part: [*command, "--part", part] for part in parts}, heard, options.patience)
    print(f"{path}: {len(report['rows'])} rows, processes ended with {statuses}")
    return 1 if any(statuses.values()) or any("difference" in row and "failed" in row for row in report["rows"]) else 0


def main() -> None:
    options = options_of()
    if options.part:
        raise SystemExit(one(options))
    if options.build:
        most = max(int(n) for n in options.devices.split(","))
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={most}".strip()
        if not options.share:
            narrowed = [*same(options), "--parts", options.parts]
            raise SystemExit(1 if build.in_processes("benchmarks.scaling", options.jobs, options.arch, *narrowed) else 0)
        devices = sizes.available([int(n) for n in options.devices.split(",")])
        every = sizes.parts(devices, options.small, options.layers, options.context)
        wanted = ours(options, {name: every[name] for name in options.parts.split(",")})
        raise SystemExit(1 if stepping.share(wanted, options.arch, options.share) else 0)
    options.out.mkdir(parents=True, exist_ok=True)
    raise SystemExit(run(options, options.out / "scaling.json"))


if __name__ == "__main__":
    main()
