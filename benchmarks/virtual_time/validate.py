"""Estimates against the times that AITER's tuned tables print, for the rows that name a hand-written or a Triton kernel.

python -m benchmarks.virtual_time.validate [--half odd|even] [--per-kernel N] [--seconds S]     needs AITER e4048607 and vgpu

Constants may be fitted to rows whose shape key's sha256 is even; what is reported is the odd half. A stratified sample: N rows of
each kernel and device, drawn by the same hash. The table has figures alone, no rows.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import math
import re
import sys
import time
from collections.abc import Iterable
from unittest import mock

import numpy as np
from vgpu.estimate import Bench

from benchmarks.virtual_time import calls, launches
from benchmarks.virtual_time.report import APART
from benchmarks.virtual_time.rows import Row, published
from jax_aiter.core import arch
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.kernels.asm import provider
from jax_aiter.kernels.asm.gemm import gemm_a16w16
from jax_aiter.kernels.asm.moe import steps
from jax_aiter.kernels.provider import Program, providers
from vgpu import devices

MOST_WORK = 2e13  # multiplications of a mixture of experts: beyond, tracing one workgroup takes many seconds


def estimated(bench: Bench, row: Row) -> float:
    """Microseconds of the row's kernel on the row's device."""
    device = devices.load(row.device)
    arch.COMPUTE_UNITS[row.arch] = int(device.values["compute_units"])
    provider._remembered.cache_clear()  # the number of compute units is not in its key
    with contextlib.ExitStack() as during:
        # The row's time is of its kernel alone.
        during.enter_context(mock.patch.object(steps.Recorded, "before", return_value=None))
        if (
            row.family == "gemm_a16w16" and row.kernel and row.implementation == "asm"
        ):  # a forced kernel would choose a split itself
            most = min(gemm_a16w16.MAX_SPLIT, dict(row.shape)["K"] // 64)
            during.enter_context(mock.patch.object(gemm_a16w16, "split_of", return_value=max(1, min(row.split, most))))
        plan = next(p for p in providers() if p.name == row.implementation).plan(calls.call(row))
    (plan,) = plan.plans if isinstance(plan, Program) else (plan,)
    shape, contents = dict(row.shape), {}
    if "token" in shape:
        tile = re.search(r"_(\d+)x\d+(?=E$|_)", row.kernel)
        block = row.block_m if row.family == "moe_stage1" else int(tile[1]) if tile else row.block_m
        contents = launches.routing_contents(plan, tokens=shape["token"], topk=shape["topk"], experts=shape["expert"], block=block)
    return sum(step["us"] for step in launches.run(bench, device, plan, contents) if "us" in step)


def work(row: Row) -> float:
    shape = dict(row.shape)
    return math.prod(shape[n] for n in ("token", "topk", "inter_dim", "model_dim")) if "token" in shape else 0.0


def drawn(rows: Iterable[Row], per_kernel: int) -> list[Row]:
    """Up to `per_kernel` of each kernel on each device, by hash."""
    found: dict[tuple[str, ...], list[Row]] = collections.defaultdict(list)
    for row in sorted(rows, key=lambda row: hashlib.sha256(f"{row.key} {row.kernel}".encode()).hexdigest()):
        if work(row) < MOST_WORK and len(found[row.family, row.device, row.kernel]) < per_kernel:
            found[row.family, row.device, row.kernel].append(row)
    # One of each kernel before any second one: a run that is cut off still covers them.
    return [group[i] for i in range(per_kernel) for group in found.values() if i < len(group)]


def line(name: str, pairs: list[tuple[Row, float]]) -> str:
    logs = np.array([math.log(us / row.us) for row, us in pairs])
    size = np.abs(logs)
    shares = (float(np.mean(size < math.log(limit))) for limit in (1.2, 2))
    cells = [len(pairs), f"{math.exp(np.median(logs)) - 1:+.0%}", f"{np.median(size):.1%}", f"{np.quantile(size, 0.9):.1%}"]
    return "| " + " | ".join(map(str, (name, *cells, *(f"{s:.0%}" for s in shares)))) + " |"


def rank_correlation(pairs: list[tuple[Row, float]]) -> float:
    ranks = [np.argsort(np.argsort(x)) for x in ([row.us for row, _ in pairs], [us for _, us in pairs])]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def report(pairs: list[tuple[Row, float]]) -> str:
    groups: dict[str, list[tuple[Row, float]]] = collections.defaultdict(list)
    for row, us in pairs:
        gemm = row.family.startswith("gemm")
        groups[f"{row.family}{' triton' if row.implementation == 'triton' else ''} {row.device}"].append((row, us))
        size = "M" if gemm else "tokens"
        groups[f"all {'GEMM' if gemm else 'MoE'}, {size} {'>' if row.m > 64 else '<='} 64"].append((row, us))
    groups["all"] = pairs
    head = ["| rows | n | bias (median) | median of \\|log\\| | p90 | within 20 % | within 2x |", "| --- |" + " ---: |" * 6]
    body = [line(name, groups[name]) for name in sorted(groups, key=lambda n: (n.startswith("all"), n == "all", n))]
    return "\n".join([*head, *body, f"\nrank correlation {rank_correlation(pairs):.3f}"])


def choice(bench: Bench, pairs: list[tuple[Row, float]]) -> str:
    """How often the estimates put a published winner before the other kind of kernel, which the search that found it had too."""
    ratios = []
    for row, us in pairs:
        if row.family != "gemm_a16w16" or dict(row.shape)["bpreshuffle"] == "True":
            continue
        other = dataclasses.replace(row, implementation="asm" if row.implementation == "triton" else "triton", kernel="")
        with contextlib.suppress(NotSupportedError, RuntimeError, TypeError, ValueError):
            ratios.append(us / estimated(bench, other))
    wrong = [r for r in ratios if r > 1]
    return (
        f"of {len(ratios)} published winners of two kinds the estimates put {len(ratios) - len(wrong)} first; "
        f"{sum(r > APART for r in ratios)} behind by more than {APART}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimates against the times of AITER's tuned tables.")
    parser.add_argument("--half", choices=["odd", "even"], default="odd", help="of the hashes (default: %(default)s)")
    parser.add_argument("--arch", choices=["gfx942", "gfx950"], default="gfx942", help="default: %(default)s")
    parser.add_argument(
        "--per-kernel", type=int, default=2, metavar="N", help="rows of each kernel and device (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="stop after so much time")
    parser.add_argument("--family", default="", metavar="TEXT", help="families that contain it")
    parser.add_argument("--choice", action="store_true", help="also estimate what the published kernel won against")
    parser.add_argument("--implementation", choices=["asm", "triton"], help="rows of one")
    args = parser.parse_args()
    half = [r for r in published() if r.fitted == (args.half == "even") and r.arch == args.arch and args.family in r.family
            and args.implementation in (None, r.implementation)]  # fmt: skip
    rows, bench, pairs = drawn(half, args.per_kernel), Bench(args.arch), []
    refused: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + args.seconds
    for row in rows:
        if time.monotonic() > end:
            break
        try:
            pairs.append((row, estimated(bench, row)))
        except (NotSupportedError, RuntimeError, TypeError, ValueError) as error:
            refused[f"{row.family}: {type(error).__name__} {str(error)[:160]}"] += 1
            continue
        print(f"{len(pairs)} {row.family} {row.device} {pairs[-1][1] / row.us:.2f}", file=sys.stderr, flush=True)
    print(f"{len(pairs)} of {len(half)} rows of the {args.half} half, {len(rows)} drawn")
    for why, count in refused.items():
        print(f"not estimated: {count} x {why}")
    if pairs:
        print(report(pairs))
    if args.choice:
        print(choice(bench, pairs))


if __name__ == "__main__":
    main()
