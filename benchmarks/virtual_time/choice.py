"""How good the kernel is that the estimates choose, where AITER's tuned tables have had the times of several for one call.

python -m benchmarks.virtual_time.choice CLONE [--arch gfx942|gfx950] [--half odd|even] [--per-family N] [--seconds S]

CLONE is a git clone of AITER: of the tables' earlier states (benchmarks.virtual_time.history). Needs vgpu, and AITER in use as for
validate. A kernel's published time is the median of its campaigns'. Regret is the chosen kernel's published time over the best one
less 1. Calls are a sample, N of each family and device drawn by their hash. The table has figures alone, no rows.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import itertools
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from vgpu.estimate import Bench

from benchmarks.virtual_time import history
from benchmarks.virtual_time.validate import MOST_WORK, estimated, work
from jax_aiter.core.errors import NotSupportedError

NEAR = 1.05


@dataclass(frozen=True)
class Outcome:
    """Of one call: published times in the order of the estimates, the estimated best first."""

    name: str
    published: tuple[float, ...]
    estimates: tuple[float, ...]

    @property
    def regret(self) -> float:
        return self.published[0] / min(self.published) - 1

    @property
    def near(self) -> list[bool]:
        """Of each kernel, whether it is within 5 % of the best."""
        return [us <= NEAR * min(self.published) for us in self.published]


def outcome(name: str, published: Sequence[float], estimates: Sequence[float]) -> Outcome:
    order = sorted(range(len(published)), key=lambda i: estimates[i])
    return Outcome(name, tuple(published[i] for i in order), tuple(estimates[i] for i in order))


def line(name: str, found: Sequence[Outcome]) -> str:
    regrets = [o.regret for o in found]
    # Where every kernel is within 5 % of the best, any choice is.
    telling = [o for o in found if not all(o.near)]
    cells = [len(found), f"{np.mean([o.near[0] for o in found]):.0%}", f"{np.mean([np.mean(o.near) for o in found]):.0%}",
             f"{np.median(regrets):.1%}", f"{np.quantile(regrets, 0.9):.1%}", len(telling),
             f"{np.mean([o.near[0] for o in telling]):.0%}" if telling else ""]  # fmt: skip
    return f"| {name} | " + " | ".join(map(str, cells)) + " |"


def report(found: Sequence[Outcome]) -> str:
    by_name: dict[str, list[Outcome]] = collections.defaultdict(list)
    for o in found:
        by_name[o.name].append(o)
    head = "| calls | n | choice within 5 % | any, in the mean | regret (median) | p90 | not all within 5 % | of these |"
    lines = [head, "| --- |" + " ---: |" * 7, *(line(name, by_name[name]) for name in sorted(by_name)), line("all", found)]
    return "\n".join(lines)


def spread(groups: Iterable[history.Group]) -> str:
    """How far two campaigns' times of one kernel, for one call, are apart."""
    pairs = [abs(math.log(a / b)) for g in groups for _, times in g.kernels for a, b in itertools.combinations(times, 2)]
    if not pairs:
        return "no kernel was timed twice for one call"
    far = np.mean([p > math.log(NEAR) for p in pairs])
    return (
        f"{len(pairs)} pairs of times of one kernel for one call: median apart {np.median(pairs):.1%}, p90 "
        f"{np.quantile(pairs, 0.9):.1%}, more than 5 % {far:.0%}"
    )


def drawn(groups: Iterable[history.Group], per_family: int) -> list[history.Group]:
    """Up to `per_family` of each family and device, by hash; one of each before any second one."""
    by_name: dict[tuple[str, str], list[history.Group]] = collections.defaultdict(list)
    for group in sorted(groups, key=lambda g: hashlib.sha256(g.key.encode()).hexdigest()):
        row = group.kernels[0][0]
        if work(row) < MOST_WORK and len(by_name[row.family, row.device]) < per_family:
            by_name[row.family, row.device].append(group)
    return [group[i] for i in range(per_family) for group in by_name.values() if i < len(group)]


def main() -> None:
    parser = argparse.ArgumentParser(description="The choice of a kernel by estimates, in published times.")
    parser.add_argument("clone", type=Path, help="a git clone of AITER")
    parser.add_argument("--half", choices=["odd", "even"], default="odd", help="of the hashes (default: %(default)s)")
    parser.add_argument("--arch", choices=["gfx942", "gfx950"], default="gfx942", help="default: %(default)s")
    parser.add_argument("--per-family", type=int, default=10, metavar="N", help="calls of each family and device")
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="begin no call after so much time")
    parser.add_argument("--family", default="", metavar="TEXT", help="families that contain it")
    args = parser.parse_args()
    timed = [g for g in history.groups(history.rows(args.clone), least=1) if g.kernels[0][0].arch == args.arch]
    every = [g for g in timed if len(g.kernels) > 1]
    half = [g for g in every if g.kernels[0][0].fitted == (args.half == "even") and args.family in g.kernels[0][0].family]
    bench, found, refused, end = Bench(args.arch), [], collections.Counter[str](), time.monotonic() + args.seconds
    chosen = drawn(half, args.per_family)
    for group in chosen:
        if time.monotonic() > end:
            break
        published, estimates = [], []
        for row, times in group.kernels:
            try:
                estimates.append(estimated(bench, row))
            except (NotSupportedError, RuntimeError, TypeError, ValueError) as error:
                refused[f"{row.family}: {type(error).__name__} {str(error)[:120]}"] += 1
                continue
            published.append(float(np.median(times)))
        if len(published) > 1:
            row = group.kernels[0][0]
            found.append(outcome(f"{row.family} {row.device}", published, estimates))
            cells = ", ".join(f"{e:.1f} for {p:.1f}" for e, p in zip(found[-1].estimates, found[-1].published, strict=True))
            print(f"{len(found)} {found[-1].name}: {cells}", file=sys.stderr, flush=True)
    print(f"{len(found)} calls of {len(half)} in the {args.half} half, {len(chosen)} drawn; {len(every)} in both")
    for why, count in refused.items():
        print(f"not estimated: {count} x {why}")
    print(spread(timed))
    if found:
        print(report(found))


if __name__ == "__main__":
    main()
