"""Argument blocks in AITER's layout, and its weight shuffles."""

from __future__ import annotations

import csv
import re
import struct
import time
from pathlib import Path

import numpy as np
from machine import CHECK_MEMORY, COLLECT_HAZARDS, Buffer, Machine

LIMIT = 50_000_000  # instructions; a kernel at these sizes runs a few tens of thousands
SECONDS: list[tuple[str, float, int]] = []  # kernel, time and instructions of every launch, for benchmarks/aiter_kernels.py

CHECKS = CHECK_MEMORY | COLLECT_HAZARDS
# Hazards that AITER's objects have as they are, by family: docs/hazards.md says of each what it is.
KNOWN_HAZARDS = {
    "topksoftmax": r"vector ALU reads it as a constant: s\d+ needs 2 .*v_readlane_b32 s\d+",
    "pa": r"(v1[67]) is read by lane \d+ before .*buffer_load_dword \1.*_dpp v\d+, \1",
    "fmoe": r"v\d+ is read by lane \d+ before .*ds_read_b32 v\d+.*global_atomic_pk_add_"
    r"|v44 is (read|overwritten) by lane \d+ before .*buffer_load_dword v44",
}


def pack(*values: Buffer | float | None) -> bytes:
    """One 16-byte slot per argument, the value first and padding after it."""
    slots = []
    for value in values:
        if value is None:
            slots.append(struct.pack("<QQ", 0, 0))
        elif isinstance(value, Buffer):
            slots.append(struct.pack("<QQ", value.pointer, 0))
        elif isinstance(value, float):
            slots.append(struct.pack("<f12x", value))
        else:
            slots.append(struct.pack("<I12x", value))
    return b"".join(slots)


def table(path: Path) -> list[dict[str, str]]:
    """The rows by their newest columns; none where a release of AITER has no such table yet."""
    if not path.exists():
        return []
    with path.open() as file:
        # Up to release 0.1.7 a code object's column was called knl_file, and no fused MoE kernel was persistent.
        return [{"ps": "0", **{"co_name" if k == "knl_file" else k: v for k, v in row.items()}} for row in csv.DictReader(file)]


def argument_bytes(path: Path) -> int:
    """Size of the argument block that a code object's metadata declares: MessagePack's 16-bit number behind the name."""
    image, name = path.read_bytes(), b".kernarg_segment_size\xcd"
    (size,) = struct.unpack_from(">H", image, image.index(name) + len(name))
    return size


def run(machine: Machine, path: Path, kernel: str, args: bytes, grid: tuple[int, int, int], threads: int = 1) -> list[int]:
    module = machine.load(path.read_bytes())
    try:
        begin = time.perf_counter()
        counts = machine.launch(module, kernel, args, grid, (256, 1, 1), threads=threads, checks=CHECKS, limit=LIMIT)
        SECONDS.append((kernel, time.perf_counter() - begin, counts[2]))
        known = KNOWN_HAZARDS.get(path.parts[path.parts.index("hsa") + 2], "none")
        unknown = [h for h in machine.hazards() if not re.search(known, h)]
        assert not unknown, unknown
        return counts
    finally:
        machine.lib.vgpu_isa_unload(machine.handle, module)


def shuffle_weight(weight: np.ndarray) -> np.ndarray:
    """AITER's (16, 16) layout of [..., N, K]: 16-row tiles of 32 k, split into 16-byte runs."""
    run_length = 16 // weight.itemsize
    *lead, n, k = weight.shape
    tiles = weight.reshape(*lead, n // 16, 16, k // 32, 32 // run_length, run_length)
    axes = len(lead)
    order = [*range(axes), axes, axes + 2, axes + 3, axes + 1, axes + 4]
    return np.ascontiguousarray(tiles.transpose(order)).reshape(weight.shape)
