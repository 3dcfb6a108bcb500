"""Estimates of ops on a device by implementation, at the sizes of four models' layers: docs/virtual_time.md.

python -m benchmarks.virtual_time.report [--objects FOLDER] [--seconds S] [--out docs/virtual_time.md]

Nothing is measured. Hand-written and HIP kernels are those of --objects (a release of AITER; the one in use by default), Triton's
are compiled from the release in use. --rows: the page's other tables, layers (calls of whole layers), sized (ops that those do not
call) and, with --device mi355x, mxfp4. Needs vgpu and AITER.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest import mock

import numpy as np
from vgpu.devices import Device
from vgpu.estimate import Bench

from benchmarks.virtual_time import four, launches, sized
from benchmarks.virtual_time.ops import Row, of_layers, rows
from jax_aiter.core import arch
from jax_aiter.core.config import config
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.kernels.asm.moe import steps
from jax_aiter.kernels.described import call_of
from jax_aiter.kernels.plan import Launch, LaunchPlan
from jax_aiter.kernels.provider import Call, Program, providers
from vgpu import devices

# Estimate over published time in nine of ten unseen rows: 1.3 for hand-written products, 1.6 for Triton's (vgpu/docs/time.md). Two
# errors of either sign are as large as the root of the sum of their squares.
APART = 1.75
# By their marks on the page.
TABLES: dict[str, Callable[[], Iterable[Row]]] = {"ops": rows, "layers": of_layers, "sized": sized.rows, "mxfp4": four.rows}
SAMPLES = 16  # workgroups traced of others: those of a causal kernel differ in length
WHOLE = 320  # a kernel of so few workgroups runs whole: those that prepare the work of the next are among them

Line = tuple[Row, str, float, float]  # with what it launches, microseconds, the sampling error


def estimated(bench: Bench, device: Device, row: Row) -> Line:
    """Microseconds of a row's kernels; what XLA does around them is not in it. Raises where no kernel takes it."""
    arch.COMPUTE_UNITS[device.arch] = int(device.values["compute_units"])
    call = row.call if isinstance(row.call, Call) else call_of(row.call, device.arch)
    provider = next(p for p in providers() if p.name == row.implementation)
    if (why := provider.refuse(call)) is not None:
        raise ValueError(why)
    with mock.patch.object(steps.Recorded, "before", return_value=None):  # quantisation and sorting would be compiled for HIP
        plan = provider.plan(call)
    plans = plan.plans if isinstance(plan, Program) else (plan,)
    found = []
    for part in plans:
        own = {b.name: held(row.contents[b.name], b.nbytes) for b in part.buffers if b.name in row.contents}
        if row.implementation == "asm" and "topk_ids" in row.contents:
            tokens, topk = row.contents["topk_ids"].shape
            experts = call.operands["w1"].shape[0]
            own = launches.routing_contents(part, tokens=tokens, topk=topk, experts=experts, block=block(part))
        found += [step for step in launches.run(bench, device, part, own, SAMPLES, WHOLE) if "us" in step]
    total = sum(step["us"] for step in found)
    error = math.sqrt(sum((step["us"] * step["sampling_error"]) ** 2 for step in found)) / total
    names = " + ".join(f"{step['us']:.1f}" for step in found)
    return row, names, total, error


def held(value: np.ndarray, nbytes: int) -> bytes:
    """A buffer's content: some kernels take as 64 bits what the op has as 32."""
    return (value.astype(np.int64) if nbytes == 2 * value.nbytes else value).tobytes()


def block(plan: LaunchPlan) -> int:
    """Rows of a workgroup of the kernel that multiplies, from its symbol: ``..._32x256``."""
    symbol = next(step.symbol for step in plan.steps if isinstance(step, Launch))
    return int(re.findall(r"_(\d+)x\d+", symbol)[-1])


def table(lines: Iterable[Line]) -> str:
    lines = list(lines)
    best = {row.what: min(us for other, _, us, _ in lines if other.what == row.what) for row, *_ in lines}
    out = ["| call | implementation | kernels, us | estimate, us | sampling | of the least |", "|---|---|---|--:|--:|--:|"]
    for row, names, us, error in lines:
        against = us / best[row.what]
        sure = "" if against == 1 else f"{against:.2f}" + ("" if against > APART else ", within the error")
        out.append(f"| {row.what} | {row.implementation} | {names} | {us:.1f} | {error:.0%} | {sure} |")
    return "\n".join(out)


def replaced(page: str, mark: str, text: str) -> str:
    """A page with what is between a mark and the next one, or the end, made anew."""
    head, mark, rest = page.partition(f"{mark}\n")
    if not mark:
        raise ValueError("the page has no such mark")
    following = rest.find("<!-- ")
    return f"{head}{mark}\n{text}\n" + ("" if following < 0 else f"\n{rest[following:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimates of ops by implementation. They are not measurements.")
    parser.add_argument("--device", choices=devices.names(), default="mi300x", help="default: %(default)s")
    parser.add_argument("--objects", metavar="FOLDER", help="the release whose hand-written and HIP kernels are taken")
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="begin no row after so much time")
    parser.add_argument("--implementation", choices=["asm", "hip", "triton"], help="rows of one")
    parser.add_argument(
        "--rows", choices=sorted(TABLES), default="ops", help="ops, or calls of whole layers (default: %(default)s)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains it")
    parser.add_argument("--out", type=Path, help="file whose table is replaced (default: print)")
    args = parser.parse_args()
    device = devices.load(args.device)
    bench, lines, refused, end = Bench(device.arch), [], [], time.monotonic() + args.seconds
    chosen = [r for r in TABLES[args.rows]() if args.implementation in (None, r.implementation) and args.only in r.what]
    for row in chosen:
        if time.monotonic() > end:
            refused.append(f"- {row.what}, {row.implementation}: not run, the time was up")
            continue
        other = row.implementation != "triton" and args.objects
        try:
            with config(source=args.objects) if other else contextlib.nullcontext():
                lines.append(estimated(bench, device, row))
        except (NotSupportedError, RuntimeError, TypeError, ValueError) as error:
            why = re.sub(r" at 0x.*", "", str(error))[:200]
            refused.append(f"- {row.what}, {row.implementation}: {why}")
            print(refused[-1], file=sys.stderr, flush=True)
            continue
        print(f"{row.what} {row.implementation} {lines[-1][2]:.1f}", file=sys.stderr, flush=True)
    text = "\n\n".join([table(lines), *(["Not estimated:\n\n" + "\n".join(refused)] if refused else [])])
    if args.out is None:
        print(text)
    else:
        args.out.write_text(replaced(args.out.read_text(), f"<!-- {args.rows} -->", text))


if __name__ == "__main__":
    main()
