"""Device time of our launches against the same kernels launched from torch: python -m benchmarks.h200.device_time --out DIR.

Of each case the same plan runs in turns from two places in one process: as our custom call in a jitted program, and replayed step
by step through the CUDA driver on torch's stream, its results and scratch in torch's tensors. Same code objects, grids and
argument blocks, and the same operands in the same memory, but for copies of those that are updated in place. One profiler session
covers both, and a kernel's duration on the device is read from it. The order of launches is known, so the k-th event is whose it
must be; that no event is missing and that the two parties used different streams is checked, not assumed.

Where code and data happen to lie moves a kernel of a few µs by some percent: torch's own replays of one call, each with its code
loaded and its results allocated anew, differ by up to 4 % in sum and 17 % in one kernel. So every case runs in several placements
(operands, results and loaded code of its own for each, on both sides), and what is compared is the mean over them. A turn runs all
placements from torch, then all as ours, so that either finds as much in the caches as the other.

Needs jax with CUDA, torch, the plans of `benchmarks.h200.prebuild`, and room for both: XLA_PYTHON_CLIENT_PREALLOCATE=false.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks.h200 import replay, trace
from benchmarks.h200.bench import draw
from benchmarks.h200.case import Case
from benchmarks.h200.execute import call_of, plan_of
from benchmarks.h200.suite import checked, timed
from jax_aiter.core.arch import arch_of
from jax_aiter.kernels.plan import CodeObject, Launch, LaunchPlan

#: placements, and turns in each, of plans that run for at most so many nanoseconds: short kernels depend more on where things lie,
#: and last few ticks of the card's clock
TURNS = {100e3: (8, 25), 1e6: (2, 30), float("inf"): (2, 10)}
LIMIT = 1.02
#: what CUPTI's clock can tell apart, in µs per kernel: a launch of 1 µs is 2 % slower within less than a tick
TICK = 0.032


class TraceError(RuntimeError):
    """The profiler's events are not the launches that were made."""


def cases(arch: str, ops: set[str]) -> list[Case]:
    """The least and the greatest checked case of every covered op, and every shape of the benchmark table."""
    by_op: dict[str, list[Case]] = {}
    for case in checked(arch):
        by_op.setdefault(case.op, []).append(case)
    found = []
    for op, known in by_op.items():
        if not ops or op in ops:
            ordered = sorted(known, key=_bytes)
            found += [ordered[0]] if len(ordered) == 1 else [ordered[0], ordered[-1]]
    return found + [entry.case for entry in timed(arch) if not ops or entry.case.op in ops]


def _bytes(case: Case) -> int:
    return sum(array.nbytes for array in case.arrays().values())


def placed(plan: LaunchPlan, place: int) -> LaunchPlan:
    """The same plan with code objects that are loaded once more: a driver ignores what follows the end of an ELF file."""
    steps = [
        dataclasses.replace(step, code=CodeObject(step.code.data + bytes(16 * place))) if isinstance(step, Launch) else step
        for step in plan.steps
    ]
    return dataclasses.replace(plan, steps=tuple(steps))


def pair(case: Case, arrays: dict[str, Any], plan: LaunchPlan) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Two functions that run the plan once and wait: from torch, and as our custom call. `arrays` are copied."""
    import torch

    values = jax.block_until_ready([value.copy() for value in arrays.values()])  # torch's stream does not wait for jax's
    driver = replay.driver()
    addresses, copies = [value.unsafe_buffer_pointer() for value in values], []
    # Both read the same memory: more pages make a short kernel slower. What is updated in place is copied.
    for operand, _ in plan.aliases:
        copies.append(torch.empty(max(values[operand].nbytes, 1), dtype=torch.uint8, device="cuda"))
        driver.copy(copies[-1].data_ptr(), addresses[operand], values[operand].nbytes)
        addresses[operand] = copies[-1].data_ptr()
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    replayed = replay.Replay(plan, addresses, driver)
    compiled = call_of(plan, case, arrays).lower(*values).compile()
    results: list[Any] = []

    def from_torch(keep=copies) -> None:  # the default keeps torch's copies alive
        replayed.run(side.cuda_stream)
        side.synchronize()

    def ours() -> None:
        results[:] = jax.block_until_ready(compiled(*values))  # kept until the next turn, so that each placement has its own

    return from_torch, ours


def attributed(kernels: Sequence[trace.Kernel], symbols: list[str], places: int, turns: int) -> list[list[list[list[float]]]]:
    """Durations by party (torch, we), launch of the plan, placement and turn.

    TraceError if the events are not, turn by turn, all placements from torch and then all of ours.
    """
    mine = [kernel for kernel in kernels if kernel.name in set(symbols)]
    if [kernel.name for kernel in mine] != symbols * (2 * places * turns):
        seen = Counter(kernel.name for kernel in mine)
        raise TraceError(f"{2 * places * turns} runs of {symbols} were made; the trace holds {dict(seen)}, not in that order")
    size = len(symbols)
    runs = [mine[i : i + size] for i in range(0, len(mine), size)]
    placed_runs = [[runs[party * places + place :: 2 * places] for place in range(places)] for party in (0, 1)]
    streams = [{kernel.stream for place in party for run in place for kernel in run} for party in placed_runs]
    if streams[0] & streams[1]:
        raise TraceError(f"torch and jax share a stream in the trace: {streams}; the launches cannot be told apart")
    return [[[[run[k].duration for run in place] for place in party] for k in range(size)] for party in placed_runs]


def middle(values: Sequence[float]) -> float:
    """Mean of the middle half: as little moved by outliers as the median, but finer than the clock's tick of 32 ns."""
    ordered, quarter = sorted(values), len(values) // 4
    return statistics.fmean(ordered[quarter : len(ordered) - quarter])


def measure(case: Case, arch: str, tracer: trace.Tracer) -> dict[str, Any]:
    arrays: dict[str, Any] = draw(case)
    plan = plan_of(case, arrays, arch)
    symbols = [step.symbol for step in plan.steps if isinstance(step, Launch)]
    pairs = [pair(case, arrays, plan)]
    _once(pairs[0])
    once = sum(kernel.duration for kernel in tracer(pairs[0][1]) if kernel.name in symbols)
    places, turns = next(found for limit, found in TURNS.items() if once <= limit)
    pairs += [pair(case, arrays, placed(plan, place)) for place in range(1, places)]
    for both in pairs[1:]:
        _once(both)

    def run() -> None:
        for _ in range(turns):
            for party in (0, 1):
                for both in pairs:
                    both[party]()

    rows, totals = [], [0.0] * places
    for name, *parties in zip(symbols, *attributed(tracer(run), symbols, places, turns), strict=True):
        torch_us, ours_us = ([middle(place) / 1e3 for place in party] for party in parties)
        totals = [total + mine for total, mine in zip(totals, torch_us, strict=True)]
        rows.append({"kernel": name, "torch_us": statistics.fmean(torch_us), "ours_us": statistics.fmean(ours_us)})
    total = {key: sum(row[key] for row in rows) for key in ("torch_us", "ours_us")}
    spread = [extreme(totals) / total["torch_us"] for extreme in (min, max)]
    about = {"case": case.label, "places": places, "turns": turns, "torch_spread": spread}
    return {**about, **total, "ratio": total["ours_us"] / total["torch_us"], "kernels": rows}


def _once(both: tuple[Callable[[], Any], Callable[[], Any]]) -> None:
    for party in both:
        party()


def slower(row: dict[str, Any]) -> bool:
    """Our launch takes longer than torch's, by more than the limit and by more than the clock can tell."""
    return row["ratio"] > LIMIT and row["ours_us"] - row["torch_us"] > TICK * len(row["kernels"])


def table(report: dict[str, Any]) -> str:
    """Markdown: one row per case."""
    good = [row for row in report["rows"] if "ratio" in row]
    over = [row["case"] for row in good if slower(row)]
    ratios = sorted(row["ratio"] for row in good)
    lines = [
        "Device time of one call, the sum over its kernels. Each is the mean over placements of code and data (8 of calls up to "
        "100 µs, else 2), and within one the mean of the middle half of the turns. "
        f"{report['device']}, jax {report['jax']}, torch {report['torch']}, read from CUPTI's records with {report['profiler']}'s "
        "profiler. Last column: torch's fastest and slowest placement against its mean.",
        "",
    ]
    if ratios:
        lines.append(
            f"{len(good)} cases: median ratio {statistics.median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f}; "
            f"above {LIMIT} by more than the clock's tick of {1e3 * TICK:.0f} ns per kernel: {', '.join(over) or 'none'}."
        )
    lines += ["", "| case | kernels | ours, µs | from torch, µs | ratio | torch's placements |", "|---|---:|---:|---:|---:|---:|"]
    for row in report["rows"]:
        if "ratio" not in row:
            lines.append(f"| {row['case']} | failed: {row['failed']} | | | | |")
            continue
        low, high = row["torch_spread"]
        times = f"{row['ours_us']:.2f} | {row['torch_us']:.2f} | {row['ratio']:.3f} | {low:.3f} to {high:.3f}"
        lines.append(f"| {row['case']} | {len(row['kernels'])} | {times} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--ops", default="")
    parser.add_argument("--profiler", choices=["auto", *trace.TRACERS], default="auto")
    options = parser.parse_args()
    device = jax.devices()[0]
    arch = arch_of(device)
    if arch is None or not arch.startswith("sm_"):
        raise SystemExit(f"torch's side launches through the CUDA driver; jax's device here is {device.device_kind}, arch {arch}")
    import torch

    known = cases(arch, {name for name in options.ops.split(",") if name})
    arrays: dict[str, Any] = draw(known[0])
    plan = plan_of(known[0], arrays, arch)
    both = pair(known[0], arrays, plan)
    wanted = Counter(step.symbol for step in plan.steps if isinstance(step, Launch))
    names = list(trace.TRACERS) if options.profiler == "auto" else [options.profiler]
    try:
        chosen = trace.choose(names, lambda: _once(both), {name: 2 * count for name, count in wanted.items()})
    except trace.NoDeviceEvents as error:
        raise SystemExit(str(error)) from None
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"device": device.device_kind, "jax": jax.__version__, "torch": torch.__version__, "profiler": chosen}
    report: dict[str, Any] = {**about, "rows": []}
    for case in known:
        try:
            row = measure(case, arch, trace.TRACERS[chosen])
            low, high = row["torch_spread"]
            print(f"{row['ratio']:6.3f} (torch's {low:.3f} to {high:.3f}) ours {row['ours_us']:10.2f} µs {row['case']}", flush=True)
        except Exception as error:  # one case must not cost the others their numbers; it is reported and fails the run
            traceback.print_exc()
            row = {"case": case.label, "failed": f"{type(error).__name__}: {error}"[:300]}
        report["rows"].append(row)
        (options.out / "device_time.json").write_text(json.dumps(report, indent=1))
    (options.out / "device_time.md").write_text(table(report))
    bad = [row["case"] for row in report["rows"] if "ratio" not in row or slower(row)]
    print(f"{len(report['rows']) - len(bad)} of {len(report['rows'])} cases at most {LIMIT}; others: {bad}")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
