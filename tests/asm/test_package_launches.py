"""Our plans on the PyPI release launch what that release's own host code launches.

The host code is compiled from the installed package amd-aiter (`host/README.md`) and asked the calls of `host_launches.json`; so is
our op, on the package's tables and objects. Where AITER's code takes a call and ours too, symbol, grid, block, every byte of the
argument block and the buffer behind each address must agree.
"""

import importlib.util
import json
import shutil
import subprocess
import sys

import pytest

from jax_aiter.core.errors import NotSupportedError
from jax_aiter.kernels.asm import tables
from jax_aiter.kernels.plan import Launch
from jax_aiter.kernels.store import Location
from jax_aiter.kernels.store.location import BY_CONTENT
from tests.needs import skip_without_aiter

from .host import build, calls
from .test_host_launches import described, plans

# How many calls both sides take on gfx942 and gfx950; where it is none, the release has no such kernels.
LEAST = {
    "topk_softmax": (20, 0),
    "fmoe": (52, 48),
    "fmoe_rest": (34, 20),
    "moe_stage1": (32, 34),
    "flatmm": (4, 0),
    "mla": (84, 54),
}
LEAST |= {"gemm_bf16": (18, 18), "paged": (136, 136)}
# Where AITER's heuristic takes, among equals, what its hash map happens to hold first: ours is asked for that very kernel.
BY_NAME = {"gemm_bf16", "paged", "moe_stage1"}
# Arguments of kernels that split every sequence evenly, by offset: the final output and the number of partitions. Newer host code
# leaves them out, since a kernel that writes partial results reads neither; ours follows it, and ran these objects so.
LEFT_OUT = {240: 8, 288: 4}
SPLIT, K = 272, 256  # in the block of the bfloat16 GEMMs


@pytest.fixture(autouse=True)
def _package(monkeypatch):
    """The installed release in the place of whatever is registered."""
    meta = build.package()
    if meta is None:
        skip_without_aiter(f"pip install amd-aiter=={build.RELEASE}")
    assert meta is not None
    if importlib.util.find_spec("pandas") is None:
        pytest.skip("pandas is not installed, which the package's table generators need")
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    here = Location(meta.parent, "package", BY_CONTENT, None, meta)
    monkeypatch.setattr(tables, "aiter_location", lambda *_: here)


def comparable(launch, length):
    """A launch without what only one side's block has: members that came later, and those of LEFT_OUT in even splits."""
    blob = bytearray.fromhex(launch["args"])[:length].ljust(length, b"\0")
    pointers = {int(k): v for k, v in launch["pointers"].items() if int(k) < length}
    if "_ps" not in launch["symbol"] and "mla_" in launch["symbol"]:
        for offset, size in LEFT_OUT.items():
            blob[offset : offset + size] = bytes(size)
            pointers.pop(offset, None)
    grid = list(launch["grid"])
    if "bf16gemm_outf32" in launch["symbol"]:  # AITER's heuristic may share 64 columns among several workgroups, ours does not
        grid[2] = min(grid[2], int.from_bytes(blob[K : K + 4], "little") // 64)
        assert int.from_bytes(blob[SPLIT : SPLIT + 4], "little") == launch["grid"][2]
        blob[SPLIT : SPLIT + 4] = grid[2].to_bytes(4, "little")
    return launch["symbol"], grid, launch["block"], blob.hex(), pointers


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("family", LEAST)
def test_launches(family, arch):
    command = [sys.executable, "-m", "tests.asm.host.record", family, arch]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    compared, differing = 0, []
    for record, actions in zip(calls.records(family, arch), found, strict=True):
        if isinstance(actions, str):  # AITER's reason: this release does not take the call
            continue
        (theirs,) = (a for a in actions if a["action"] == "launch")
        if family in BY_NAME:
            record = {**record, "kernel": theirs["symbol"]}
        try:
            steps = [described(p, s) for p in plans(record) for s in p.steps if isinstance(s, Launch)]
        except NotSupportedError:
            continue
        length = len(theirs["args"]) // 2
        ours = [comparable(s, length) for s in steps if s["symbol"] == theirs["symbol"]]
        compared += 1
        if ours != [comparable(theirs, length)]:
            differing.append((record, ours, theirs))
    assert not differing, f"{len(differing)} of {compared} differ, the first: {differing[0]}"
    assert compared >= LEAST[family][arch == "gfx950"], compared
