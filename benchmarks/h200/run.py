"""The whole suite on a GPU: python -m benchmarks.h200.run --out DIR [--check] [--bench] [--through plan|op] [--ops a,b]
[--tuned FILE].

Needs the plans that `benchmarks.h200.prebuild` made (JAX_AITER_CACHE), jax with CUDA and, for the comparison with
launches from torch, torch. Exits with 1 if any case is outside its tolerance.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax

from benchmarks.h200.check import check_all
from jax_aiter.core.arch import arch_of
from jax_aiter.kernels import _native


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--bench", action="store_true")
    parser.add_argument("--through", default="plan", choices=["plan", "op"])
    parser.add_argument("--ops", default="")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tuned", type=Path, help="a file of jax-aiter tune: --bench also times what auto takes with it")
    options = parser.parse_args()
    _native.require()
    device = jax.devices()[0]
    arch = arch_of(device)
    print(f"{device.device_kind} {arch} jax {jax.__version__}", flush=True)
    if arch is None:
        raise SystemExit("this machine has no GPU that jax can see")
    ops = {name for name in options.ops.split(",") if name}
    options.out.mkdir(parents=True, exist_ok=True)
    report: dict = {"device": device.device_kind, "arch": arch, "jax": jax.__version__}
    if options.check or not options.bench:
        report["check"] = check_all(arch, ops, options.through, options.seeds)
    if options.bench:
        from benchmarks.h200.bench import bench_all

        def filed(found: dict) -> None:  # after every row, so that a run that is cut off leaves what it measured
            (options.out / "h200.json").write_text(json.dumps({**report, **found}, indent=1))

        report |= bench_all(arch, ops, options.tuned, filed)
    (options.out / "h200.json").write_text(json.dumps(report, indent=1))
    failed = [row["case"] for row in report.get("check", ()) if not row["ok"]]
    print(f"{len(report.get('check', ())) - len(failed)} cases right, {len(failed)} wrong: {failed}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
