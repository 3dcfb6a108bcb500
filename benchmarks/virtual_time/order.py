"""The estimates by which auto orders kernels on AMD where AITER leaves a call open: jax_aiter/bind/estimates.

python -m benchmarks.virtual_time.order [--arch gfx942|gfx950] [--only GROUP ...] [--anew] [--out FILE]

The calls are those of `benchmarks.virtual_time.open_calls`. Nothing is measured. Calls that one kernel alone takes are left out;
what the file has already is kept, and it is written after each call, so that a run may be cut off. Composable Kernel's products are
by formula, where there is one (`benchmarks.virtual_time.analytic`). Needs AITER e4048607 and vgpu.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from vgpu.devices import Device
from vgpu.estimate import Bench

from benchmarks.virtual_time import analytic, errors, open_calls
from benchmarks.virtual_time.ops import Row
from benchmarks.virtual_time.report import estimated
from jax_aiter.bind import tuning
from jax_aiter.bind.estimated import VERSION
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.kernels.provider import Call, providers
from vgpu import devices

BY_FORMULA = ("gfx942", "gemm_a8w8_blockscale")


@functools.cache
def _formula() -> tuple[Sequence[analytic.Product], Sequence[float]]:
    rows = analytic.published()
    return rows, analytic.fit([r for r in rows if r.fitted])


def by_formula(call: Call) -> float:
    """Microseconds of Composable Kernel's product with block scales, by the tile of AITER's nearest row."""
    (m, k), n = call.operands["xq"].shape, call.operands["wq"].shape[0]
    rows, constants = _formula()
    tile = analytic.nearest(rows, (m, n, k)).tile
    return float(analytic.estimates(constants, np.array([[m, n, k]], float), np.array([tile], float))[0])


def times(bench: Bench, device: Device, call: Call, contents: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Microseconds by implementation, of those that take the call here or by formula."""
    found = {}
    for name in (p.name for p in providers()):
        try:
            if name != "hip":
                found[name] = estimated(bench, device, Row("", name, call, contents))[2]
            elif (device.arch, call.op) == BY_FORMULA:
                found[name] = by_formula(call)
        except (NotSupportedError, RuntimeError, TypeError, ValueError) as error:
            print(f"{call.op} {tuning.spelled(call)} {name}: {str(error)[:200]}", file=sys.stderr, flush=True)
    return {name: float(f"{us:.3g}") for name, us in found.items()}


def text(device: Device, entries: Mapping[str, Any]) -> str:
    """The file: a line for each entry."""
    about = {"version": VERSION, "device": open_calls.DEVICES[device.arch], "compute_units": int(device.values["compute_units"])}
    name = open_calls.DEVICES[device.arch]
    head = json.dumps({**about, "errors": errors.errors(name), "near": errors.near(name)}, indent=1)
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in sorted(entries.items()))
    return head.removesuffix("\n}") + ',\n "entries": {\n' + lines + "\n }\n}\n"


def nearer(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of two calls under one key, the one whose kernels are less apart."""
    return min((e for e in (one, other) if e is not None), key=lambda e: max(e["us"].values()) / min(e["us"].values()))


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimates of the kernels for each call of a table. They are not measurements.")
    parser.add_argument("--arch", choices=sorted(open_calls.DEVICES), default="gfx942", help="default: %(default)s")
    parser.add_argument("--only", nargs="*", choices=sorted(open_calls.GROUPS), default=list(open_calls.GROUPS), metavar="GROUP")
    parser.add_argument("--anew", action="store_true", help="estimate what the file has already, too")
    parser.add_argument("--out", type=Path, help="the file to write (default: print)")
    args = parser.parse_args()
    device, bench = devices.load(open_calls.DEVICES[args.arch]), Bench(args.arch)
    old: dict[str, Any] = json.loads(args.out.read_text())["entries"] if args.out is not None and args.out.exists() else {}
    known = set() if args.anew else {(key, entry["call"]) for key, entry in old.items()}
    entries = {} if args.anew else old
    for call, contents in (asked for name in args.only for asked in open_calls.GROUPS[name](args.arch)):
        key, spelled = tuning.key(call), tuning.spelled(call)
        if (key, spelled) in known:
            continue
        us = times(bench, device, call, contents)
        print(f"{call.op} {spelled} {us}", file=sys.stderr, flush=True)
        if len(us) > 1:
            entries[key] = nearer(entries.get(key), {"us": us, "call": spelled})
            if args.out is not None:
                args.out.write_text(text(device, entries))
    if args.out is None:
        print(text(device, entries))


if __name__ == "__main__":
    main()
