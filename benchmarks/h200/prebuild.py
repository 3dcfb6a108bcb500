"""Builds, on any machine, every plan the suite needs, into JAX_AITER_CACHE: python -m benchmarks.h200.prebuild [--arch sm_90]."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.h200.case import Shapes
from benchmarks.h200.suite import checked, timed
from jax_aiter.kernels.ahead import Outcome
from jax_aiter.kernels.cache import cache_root
from jax_aiter.kernels.triton.ahead import build_all


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--ops", default="")
    options = parser.parse_args()
    wanted = {name for name in options.ops.split(",") if name}
    cases = [*checked(options.arch), *(entry.case for entry in timed(options.arch))]
    cases = [case for case in cases if not wanted or case.op in wanted]
    start, seconds = time.monotonic(), {}
    specs = []
    for case in cases:
        specs.append(case.spec(case.make(Shapes(np.random.PCG64(0))), options.arch))
    last = [time.monotonic()]

    def done(outcome: Outcome) -> None:
        now = time.monotonic()
        seconds.setdefault(outcome.spec.op, []).append(round(now - last[0], 2))
        last[0] = now
        print(f"{outcome.status} {seconds[outcome.spec.op][-1]:6.1f} s {outcome.spec.op}", file=sys.stderr, flush=True)
        if outcome.status in ("refused", "failed"):
            print(f"\n{outcome.status}: {outcome.spec.op} {outcome.spec.operands}: {outcome.reason}", file=sys.stderr)

    outcomes = build_all(specs, options.jobs, done)
    counts = {status: sum(o.status == status for o in outcomes) for status in ("built", "cached", "refused", "failed")}
    print(f"\n{counts} in {time.monotonic() - start:.0f} s, cache {cache_root()}")
    Path(cache_root(), f"build-seconds-{options.arch}.json").write_text(json.dumps(seconds))
    if counts["refused"] or counts["failed"]:
        raise SystemExit("some cases have no plan")


if __name__ == "__main__":
    main()
