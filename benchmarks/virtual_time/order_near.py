"""How well what an estimate says holds for calls of other sizes that follow it: their own estimates, of a sample.

python -m benchmarks.virtual_time.order_near [--arch gfx942|gfx950] [--calls N] [--seed S]

Of bfloat16 products, drawn at random from those near an entry that puts the hand-written kernel first. Needs AITER e4048607 and
vgpu.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
from collections.abc import Iterator

import numpy as np
from vgpu.estimate import Bench

from benchmarks.virtual_time import open_calls
from benchmarks.virtual_time.order import times
from benchmarks.virtual_time.order_table import OTHERS
from jax_aiter.bind import estimated, tuning
from jax_aiter.kernels.provider import Call
from vgpu import devices


def near(arch: str, seed: int) -> Iterator[tuple[Call, estimated.Estimate]]:
    """Products whose weight is none of the table's, with the entry that they follow."""
    rng = random.Random(seed)

    def drawn(size: int, least: int, step: int) -> int:
        return max(least, round(size * 2 ** rng.uniform(-1, 1)) // step * step)

    while True:
        (n, k), m = rng.choice(open_calls.WEIGHTS), rng.choice(open_calls.ROWS)
        m, n, k = drawn(m, 1, 1), drawn(n, 192, 64), drawn(k, 192, 64)
        call = open_calls.product(arch, m, n, k)
        found = estimated.agreed(call, OTHERS)
        another = (n, k) not in open_calls.WEIGHTS
        if found is not None and another and dataclasses.replace(found, near=None).order(OTHERS) != OTHERS:
            yield call, found


def main() -> None:
    parser = argparse.ArgumentParser(description="The estimates of calls that follow another one's. They are not measurements.")
    parser.add_argument("--arch", choices=sorted(open_calls.DEVICES), default="gfx942", help="default: %(default)s")
    parser.add_argument("--calls", type=int, default=24, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    args = parser.parse_args()
    device, bench = devices.load(open_calls.DEVICES[args.arch]), Bench(args.arch)
    ratios, lost, followed = [], [], []
    for call, found in near(args.arch, args.seed):
        if len(ratios) == args.calls:
            break
        us = times(bench, device, call, {})
        if len(us) > 1:  # the hand-written kernels take multiples of their tiles alone
            ratios.append(us["triton"] / us["asm"])
            lost.append(found.us["triton"] / found.us["asm"] / ratios[-1])
            followed += [ratios[-1]] if found.order(OTHERS) != OTHERS else []
            print(f"{tuning.spelled(call)} {us} by {found.call} {found.us}", file=sys.stderr, flush=True)
    print(f"{len(ratios)} calls: the entry's ratio over the call's, median {np.median(lost):.2f}, p90 {np.quantile(lost, 0.9):.2f}")
    ahead = [sum(r > 1 for r in each) for each in (ratios, followed)]
    print(f"the hand-written kernel is ahead in {ahead[0]}, in {ahead[1]} of the {len(followed)} that follow the entry")


if __name__ == "__main__":
    main()
