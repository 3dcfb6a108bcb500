"""Launches as files: written by `tests/aiter` here or by a program under VGPU_RECORD, run again on the bare interpreter.

A file is one line of JSON, then the code object, the argument block and the memory that it points to (src/hip/core/record.cpp).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import Buffer, Machine

THREE = tuple[int, int, int]


@dataclass(frozen=True)
class Launch:
    arch: str
    kernel: str
    image: bytes
    grid: THREE
    block: THREE
    lds: int
    kernarg: bytes
    buffers: dict[int, bytes]  # address in the recorded process -> contents

    def save(self, folder: Path) -> None:
        """Keeps it unless the kernel has been recorded before."""
        path = folder / f"{hashlib.sha256(self.image + self.kernel.encode()).hexdigest()[:16]}.launch"
        if path.exists():
            return
        head = {
            "arch": self.arch, "kernel": self.kernel, "grid": self.grid, "block": self.block, "lds": self.lds,
            "image": len(self.image), "kernarg": len(self.kernarg), "buffers": [[a, len(b)] for a, b in self.buffers.items()],
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join([json.dumps(head).encode(), b"\n", self.image, self.kernarg, *self.buffers.values()]))

    @staticmethod
    def load(path: Path) -> Launch:
        with path.open("rb") as file:
            head = json.loads(file.readline())
            image, kernarg = file.read(head["image"]), file.read(head["kernarg"])
            buffers = {address: file.read(size) for address, size in head["buffers"]}
        three = {name: tuple(head[name]) for name in ("grid", "block")}
        return Launch(head["arch"], head["kernel"], image, lds=head["lds"], kernarg=kernarg, buffers=buffers, **three)


class Stage:
    """A launch with its memory in place, to be run many times."""

    def __init__(self, launch: Launch, machine: Machine):
        self.launch, self.machine = launch, machine
        self.module = machine.load(launch.image)
        self.buffers: list[Buffer] = []
        moved: dict[int, int] = {}
        for address, content in launch.buffers.items():
            buffer = machine.array(np.frombuffer(content, np.uint8))
            self.buffers.append(buffer)
            moved[address] = buffer.pointer
        # Memory holds addresses too: tables of pointers that a kernel is given.
        self.contents = [self._moved(content, moved) for content in launch.buffers.values()]
        self.kernarg = self._moved(launch.kernarg, moved)

    def _moved(self, content: bytes, moved: dict[int, int]) -> bytes:
        """With every aligned eight bytes that are an address of the recorded memory led to where that memory is now."""
        words = np.frombuffer(content, np.uint64, len(content) // 8).copy()
        recorded = words.copy()
        for address, old in self.launch.buffers.items():
            words[(recorded >= address) & (recorded < address + len(old))] += np.uint64((moved[address] - address) % 2**64)
        return words.tobytes() + content[words.nbytes :]

    def run(self, checks: int, limit: int) -> tuple[list[int], bytes]:
        """Counts, and a digest of all memory afterwards. Raises RuntimeError when the kernel fails."""
        for buffer, content in zip(self.buffers, self.contents, strict=True):
            buffer.fill(content)
        launch = self.launch
        counts = self.machine.launch(
            self.module, launch.kernel, self.kernarg, launch.grid, launch.block, launch.lds, checks=checks, limit=limit
        )
        digest = hashlib.sha256()
        for buffer in self.buffers:
            digest.update(buffer.numpy())
        return counts, digest.digest()

    def close(self) -> None:
        for buffer in self.buffers:
            buffer.free()
        self.machine.lib.vgpu_isa_unload(self.machine.handle, self.module)
