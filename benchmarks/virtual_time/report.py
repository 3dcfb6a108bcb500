"""Estimates of ops on a device by implementation, at the sizes of models' layers: docs/virtual_time.md.

python -m benchmarks.virtual_time.report --rows all --journal FILE --objects FOLDER --out docs/virtual_time.md

writes every table of the page; --rows NAME writes one. Rows that the journal has, of the same versions, are not estimated again:
a run that is cut off goes on where it stopped. Nothing is measured. Kernels are of the release of AITER in use; hand-written and
HIP ones that it cannot serve are of --objects, another release. Needs vgpu and AITER.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from vgpu.devices import Device
from vgpu.estimate import Bench

from benchmarks.virtual_time import analytic, coverage, four, launches, sized, versions
from benchmarks.virtual_time.families import attention, composable, dense, indexer, linear, moe, products
from benchmarks.virtual_time.journal import Entry, Journal, key, op_of
from benchmarks.virtual_time.ops import Row, of_layers, of_prompts, rows
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
TABLES: dict[str, Callable[[], Iterable[Row]]] = {
    "ops": rows, "layers": of_layers, "prompts": of_prompts, "sized": sized.rows, "dense": dense.rows, "attention": attention.rows,
    "indexer": indexer.rows, "linear": linear.rows, "moe": moe.rows, "products": products.rows, "composable": composable.rows,
    "mxfp4": lambda: [*four.rows(), *products.on_gfx950()],
}  # fmt: skip
PARTS = ("versions", *TABLES, "ck", "without")
SAMPLES = 16  # workgroups traced of others: those of a causal kernel differ in length
#: Tables of another device than an MI300X.
DEVICES = {"mxfp4": "mi355x"}
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
    out = ["| call | op | implementation | kernels, us | estimate, us | sampling | of the least |", "|---|---|---|---|--:|--:|--:|"]
    for row, names, us, error in lines:
        against = us / best[row.what]
        sure = "" if against == 1 else f"{against:.2f}" + ("" if against > APART else ", within the error")
        out.append(f"| {row.what} | `{op_of(row)}` | {row.implementation} | {names} | {us:.1f} | {error:.0%} | {sure} |")
    return "\n".join(out)


def replaced(page: str, mark: str, text: str) -> str:
    """A page with what is between a mark and the next one, or the end, made anew."""
    head, mark, rest = page.partition(f"{mark}\n")
    if not mark:
        raise ValueError("the page has no such mark")
    following = rest.find("<!-- ")
    return f"{head}{mark}\n{text}\n" + ("" if following < 0 else f"\n{rest[following:]}")


def attempt(bench: Bench, device: Device, row: Row, objects: str | None) -> Entry:
    """What the journal keeps of a row: its estimate, or why there is none."""
    begun, entry = time.process_time(), Entry()
    for source in dict.fromkeys((None, objects if row.implementation != "triton" else None)):
        try:
            with contextlib.nullcontext() if source is None else config(source=source):
                _, names, us, error = estimated(bench, device, row)
                entry = {"names": names, "us": us, "error": error, "other": source is not None}
                break
        except (NotSupportedError, RuntimeError, TypeError, ValueError) as failure:
            entry = entry or {"refused": re.sub(r" at 0x.*", "", str(failure))[:200]}
    return {"what": row.what, "op": op_of(row), "by": row.implementation, **entry, "cpu": round(time.process_time() - begun, 1)}


def estimates(name: str, journal: Journal, args: argparse.Namespace) -> Iterator[tuple[Row, Entry]]:
    """The rows of a table with their entries; those that are not wanted are left out."""
    device = devices.load(DEVICES.get(name, "mi300x"))
    bench, version = Bench(device.arch), versions.key(device, SAMPLES, WHOLE)
    for row in TABLES[name]():
        if args.implementation not in (None, row.implementation) or args.only not in row.what:
            continue
        entry = journal.get(key(row, version))
        if entry is None and time.monotonic() > args.end:
            entry = {"refused": "not run, the time was up"}
        elif entry is None:
            entry = journal.add(key(row, version), attempt(bench, device, row, args.objects))
            print(f"{name} {row.what} {row.implementation} {entry.get('us', entry.get('refused'))} [{entry['cpu']} s]",
                  file=sys.stderr, flush=True)  # fmt: skip
        yield row, entry
    bench.close()


def page_of(found: Iterable[tuple[Row, Entry]]) -> str:
    """A table, with what has no estimate behind it."""
    lines, refused = list[Line](), list[str]()
    for row, entry in found:
        if "refused" in entry:
            refused.append(f"- {row.what}, {row.implementation}: {entry['refused']}")
        else:
            by = dataclasses.replace(row, implementation=f"{row.implementation} †") if entry["other"] else row
            lines.append((by, entry["names"], entry["us"], entry["error"]))
    return "\n\n".join([table(lines), *(["Not estimated:\n\n" + "\n".join(refused)] if refused else [])])


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimates of ops by implementation. They are not measurements.")
    parser.add_argument("--objects", metavar="FOLDER", help="another release, for hand-written and HIP kernels that this one lacks")
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="begin no row after so much time")
    parser.add_argument("--implementation", choices=["asm", "hip", "triton"], help="rows of one")
    parser.add_argument("--rows", choices=["all", *PARTS], default="all", help="one part of the page (default: all of it)")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains it")
    parser.add_argument("--journal", type=Path, help="where estimates are kept, and taken from")
    parser.add_argument("--out", type=Path, help="file whose tables are replaced (default: print)")
    args = parser.parse_args()
    args.end = time.monotonic() + args.seconds
    journal, written = Journal(args.journal), list[str]()
    for name in PARTS if args.rows == "all" else (args.rows,):
        if name in TABLES:
            text = page_of(estimates(name, journal, args))
        elif name == "without":
            text = coverage.section(coverage.on_page(args.out.read_text() if args.out else "\n".join(written)))
        else:
            text = analytic.page() if name == "ck" else versions.line(args.objects)
        written.append(f"<!-- {name} -->\n\n{text}\n")
        if args.out is not None:
            args.out.write_text(replaced(args.out.read_text(), f"<!-- {name} -->", text))
    if args.out is None:
        print("\n".join(written))


if __name__ == "__main__":
    main()
