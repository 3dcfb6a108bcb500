"""Runs cases on the ROCm devices and on the CPU backend, and prints one JSON line per case. Started by the tests.

Usage: python runner.py [--replicate] [NAME...]. Several cases are compiled together: compilation is most of the time. Such
batches take turns on the devices; with --replicate each runs on all of them, as one program.
"""

from __future__ import annotations

import json
import sys

import cases
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH = 8


def ulps_between(got: np.ndarray, want: np.ndarray, scale: float) -> float:
    """The largest difference in units in the last place of `want`, or of `scale` where that is larger."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return float("inf")
    if want.dtype.kind in "iub":
        return 0.0 if np.array_equal(got, want) else float("inf")
    with np.errstate(all="ignore"):
        a, b = got.astype(np.float64), want.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        magnitude = np.maximum(np.abs(b), scale)
        info = jax.numpy.finfo(want.dtype)
        spacing = np.exp2(np.floor(np.log2(np.maximum(magnitude, float(info.smallest_normal))))) * float(info.eps)
        difference = np.where(same, 0, np.abs(a - b) / spacing)
    return float(np.max(np.where(np.isnan(difference), np.inf, difference), initial=0))


def run(batch: list[cases.Case], devices: list[jax.Device]) -> list[list[list[np.ndarray]]]:
    """[case][leaf][device]: with several devices, every one computes everything."""

    def together(arguments):
        return [c.function(*a) for c, a in zip(batch, arguments, strict=True)]

    everywhere = NamedSharding(Mesh(np.array(devices), "x"), PartitionSpec())
    placement = everywhere if len(devices) > 1 else devices[0]
    arguments = jax.device_put([c.arguments for c in batch], placement)
    results = jax.jit(together, out_shardings=everywhere if len(devices) > 1 else None)(arguments)
    return [[[np.asarray(s.data) for s in leaf.addressable_shards] for leaf in jax.tree.leaves(out)] for out in results]


def report(batch: list[cases.Case], rocm: list[jax.Device], cpu: jax.Device) -> None:
    try:
        got, want = run(batch, rocm), run(batch, [cpu])
    except Exception as error:
        if len(batch) > 1:
            for case in batch:
                report([case], rocm, cpu)
        else:
            print(json.dumps({"name": batch[0].name, "error": str(error)[:2000]}), flush=True)
        return
    for case, mine, theirs in zip(batch, got, want, strict=True):
        pairs = [(a, b) for everywhere, (b,) in zip(mine, theirs, strict=True) for a in everywhere]
        worst = max(ulps_between(a, b, case.scale) for a, b in pairs)
        print(json.dumps({"name": case.name, "ulps": worst, "devices": [d.id for d in rocm]}), flush=True)


def main() -> None:
    replicate = "--replicate" in sys.argv
    names = [a for a in sys.argv[1:] if a != "--replicate"]
    table = cases.load()
    chosen = [table[name] for name in names] or list(table.values())
    rocm, cpu = jax.devices("rocm"), jax.devices("cpu")[0]
    # As many batches as devices, so that each has work, or more; by rounding their size up, six cases were three of two.
    count = max(-(-len(chosen) // BATCH), min(len(rocm), len(chosen)))
    for index in range(count):
        batch = chosen[index * len(chosen) // count : (index + 1) * len(chosen) // count]
        report(batch, rocm if replicate else [rocm[index % len(rocm)]], cpu)


if __name__ == "__main__":
    main()
