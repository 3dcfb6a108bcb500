"""What has been estimated, one JSON line each, so that a run that is cut off goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.virtual_time.ops import Row
from jax_aiter.kernels.hip import adapters as hip
from jax_aiter.kernels.provider import Call
from jax_aiter.kernels.triton import adapters as triton

Entry = dict[str, Any]


def op_of(row: Row) -> str:
    return row.call.op if isinstance(row.call, Call) else str(row.call["op"])


def _recorded(row: Row) -> int | None:
    """The version of the function that records the row's plan: another one may launch the same kernels otherwise."""
    return {"hip": hip.VERSION, "triton": triton.VERSIONS.get(op_of(row), triton.VERSION)}.get(row.implementation)


def key(row: Row, versions: Mapping[str, str]) -> str:
    """Of a call by an implementation, with everything that its estimate depends on; not of its name on the page."""
    call = row.call
    said = (call.op, call.target, sorted(call.operands.items()), sorted(call.params.items())) if isinstance(call, Call) else call
    digest = hashlib.sha256(repr((row.implementation, _recorded(row), said, sorted(versions.items()))).encode())
    for name in sorted(row.contents):
        value = np.ascontiguousarray(row.contents[name])
        digest.update(f"{name}{value.dtype}{value.shape}".encode() + value.tobytes())
    return digest.hexdigest()[:32]


class Journal:
    """Entries by key, from a file to which new ones are appended; without a file they are kept for the run alone."""

    def __init__(self, path: Path | None):
        self._path, self._entries = path, dict[str, Entry]()
        for line in path.read_text().splitlines() if path is not None and path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:  # the run was cut off in the midst of a line
                continue
            self._entries[entry["key"]] = entry

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def add(self, key: str, entry: Entry) -> Entry:
        self._entries[key] = entry = {"key": key, **entry}
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(f"{json.dumps(entry)}\n")
        return entry
