"""Device time of our launches against the same kernels launched from torch: python -m benchmarks.h200.device_time --out DIR.

Of each case the same plan runs in turns from two places in one process: as our custom call in a jitted program, and replayed step
by step through the CUDA driver on torch's stream, its results and scratch in torch's tensors. Same code objects, grids and
argument blocks, and the same operands in the same memory, but for copies of those that are updated in place. One profiler session
covers both, and a kernel's duration on the device is read from it; what is compared is its middle over the turns. The order of
launches is known, so the k-th event is whose it must be; that no event is missing and that the two parties used different streams
is checked, not assumed.

Needs jax with CUDA, torch, the plans of `benchmarks.h200.prebuild`, and room for both: XLA_PYTHON_CLIENT_PREALLOCATE=false.
"""

from __future__ import annotations

import argparse
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
from benchmarks.h200.execute import plan_of, through_plan
from benchmarks.h200.suite import checked, timed
from jax_aiter.core.arch import arch_of
from jax_aiter.kernels.plan import Launch, LaunchPlan

#: turns for plans that run for at most so many nanoseconds: short kernels last few ticks of the card's clock, so more are averaged
TURNS = {100e3: 200, 1e6: 60, float("inf"): 20}
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


def pair(case: Case, arch: str) -> tuple[LaunchPlan, Callable[[], Any], Callable[[], Any]]:
    """The plan, and two functions that run it once and wait: from torch, and as our custom call."""
    import torch

    arrays: dict[str, Any] = draw(case)
    values = jax.block_until_ready(list(arrays.values()))  # torch's stream does not wait for jax's
    plan, driver = plan_of(case, arrays, arch), replay.driver()
    addresses, copies = [value.unsafe_buffer_pointer() for value in values], []
    # Both read the same memory: more pages make a short kernel slower. What is updated in place is copied.
    for operand, _ in plan.aliases:
        copies.append(torch.empty(max(values[operand].nbytes, 1), dtype=torch.uint8, device="cuda"))
        driver.copy(copies[-1].data_ptr(), addresses[operand], values[operand].nbytes)
        addresses[operand] = copies[-1].data_ptr()
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    replayed = replay.Replay(plan, addresses, driver)
    compiled = through_plan(case, arrays, arch).lower(*values).compile()

    def from_torch(keep=copies) -> None:  # the default keeps torch's copies alive
        replayed.run(side.cuda_stream)
        side.synchronize()

    def ours() -> None:
        jax.block_until_ready(compiled(*values))

    return plan, from_torch, ours


def attributed(kernels: Sequence[trace.Kernel], symbols: list[str], turns: int) -> tuple[list[list[float]], list[list[float]]]:
    """Durations (torch's, ours) by launch of the plan, over the turns; TraceError if the events are not torch, ours, torch, ..."""
    mine = [kernel for kernel in kernels if kernel.name in set(symbols)]
    wanted = [*symbols, *symbols] * turns
    if [kernel.name for kernel in mine] != wanted:
        seen = Counter(kernel.name for kernel in mine)
        raise TraceError(f"{2 * turns} runs of {symbols} were made, in turns; the trace holds {dict(seen)}, not in that order")
    size = len(symbols)
    runs = [mine[i : i + size] for i in range(0, len(mine), size)]
    streams = [{kernel.stream for run in runs[party::2] for kernel in run} for party in (0, 1)]
    if streams[0] & streams[1]:
        raise TraceError(f"torch and jax share a stream in the trace: {streams}; the launches cannot be told apart")
    torch_s, ours_s = ([[run[k].duration for run in runs[party::2]] for k in range(size)] for party in (0, 1))
    return torch_s, ours_s


def middle(values: Sequence[float]) -> float:
    """Mean of the middle half: as little moved by outliers as the median, but finer than the clock's tick of 32 ns."""
    ordered, quarter = sorted(values), len(values) // 4
    return statistics.fmean(ordered[quarter : len(ordered) - quarter])


def measure(case: Case, arch: str, tracer: trace.Tracer) -> dict[str, Any]:
    plan, from_torch, ours = pair(case, arch)
    symbols = [step.symbol for step in plan.steps if isinstance(step, Launch)]
    from_torch()
    ours()
    once = sum(kernel.duration for kernel in tracer(ours) if kernel.name in symbols)
    turns = next(turns for limit, turns in TURNS.items() if once <= limit)

    def both() -> None:
        for _ in range(turns):
            from_torch()
            ours()

    torch_ns, ours_ns = attributed(tracer(both), symbols, turns)
    rows = [
        {"kernel": name, "torch_us": middle(t) / 1e3, "ours_us": middle(o) / 1e3}
        for name, t, o in zip(symbols, torch_ns, ours_ns, strict=True)
    ]
    total = {key: sum(row[key] for row in rows) for key in ("torch_us", "ours_us")}
    # The same statistic of torch's odd turns against its even ones: how far apart two equal halves come.
    noise = sum(middle(t[1::2]) for t in torch_ns) / sum(middle(t[::2]) for t in torch_ns)
    ratio = total["ours_us"] / total["torch_us"]
    return {"case": case.label, "turns": turns, **total, "ratio": ratio, "noise": noise, "kernels": rows}


def slower(row: dict[str, Any]) -> bool:
    """Our launch takes longer than torch's, by more than the limit and by more than the clock can tell."""
    return row["ratio"] > LIMIT and row["ours_us"] - row["torch_us"] > TICK * len(row["kernels"])


def table(report: dict[str, Any]) -> str:
    """Markdown: one row per case."""
    good = [row for row in report["rows"] if "ratio" in row]
    over = [row["case"] for row in good if slower(row)]
    ratios = sorted(row["ratio"] for row in good)
    lines = [
        f"Device time of one call, the sum over its kernels, each the mean of the middle half of {min(TURNS.values())} to "
        f"{max(TURNS.values())} turns; {report['device']}, jax {report['jax']}, torch {report['torch']}, read from CUPTI's "
        f"records with {report['profiler']}'s profiler. Last column: torch's own odd turns against its even ones.",
        "",
    ]
    if ratios:
        lines.append(
            f"{len(good)} cases: median ratio {statistics.median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f}; "
            f"above {LIMIT} by more than the clock's tick of {1e3 * TICK:.0f} ns per kernel: {', '.join(over) or 'none'}."
        )
    lines += ["", "| case | kernels | ours, µs | from torch, µs | ratio | torch against itself |", "|---|---:|---:|---:|---:|---:|"]
    for row in report["rows"]:
        if "ratio" not in row:
            lines.append(f"| {row['case']} | failed: {row['failed']} | | | | |")
            continue
        times = f"{row['ours_us']:.2f} | {row['torch_us']:.2f} | {row['ratio']:.3f} | {row['noise']:.3f}"
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
    plan, from_torch, ours = pair(known[0], arch)
    wanted = Counter(step.symbol for step in plan.steps if isinstance(step, Launch))
    names = list(trace.TRACERS) if options.profiler == "auto" else [options.profiler]
    try:
        chosen = trace.choose(names, lambda: (from_torch(), ours()), {name: 2 * count for name, count in wanted.items()})
    except trace.NoDeviceEvents as error:
        raise SystemExit(str(error)) from None
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"device": device.device_kind, "jax": jax.__version__, "torch": torch.__version__, "profiler": chosen}
    report: dict[str, Any] = {**about, "rows": []}
    for case in known:
        try:
            row = measure(case, arch, trace.TRACERS[chosen])
            print(f"{row['ratio']:6.3f} (noise {row['noise']:.3f}) ours {row['ours_us']:10.2f} µs {row['case']}", flush=True)
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
