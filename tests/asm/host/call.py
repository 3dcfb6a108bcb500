"""Calling AITER's launch functions with tensors that are only addresses, and reading what was recorded."""

import ctypes
import math
from pathlib import Path
from typing import Any

# c10::ScalarType's numbers.
DTYPES = {"uint8": 0, "int8": 1, "int32": 3, "int64": 4, "float16": 5, "float32": 6, "bfloat16": 15}
DTYPES |= {"float8_e4m3fn": 24, "float8_e4m3fnuz": 26}
# Buffers lie this far apart, behind an address that no size or stride next to another looks like.
SPACING = 1 << 40
BASE = 0x7EC5 << 48


class Tensor(ctypes.Structure):
    """As ``at::Tensor`` of `include/torch/all.h`."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("sizes", ctypes.c_int64 * 8),
        ("strides", ctypes.c_int64 * 8),
        ("type", ctypes.c_int),
    )


class Slot(ctypes.Structure):
    """One argument, as `include/entry.h` has it."""

    class _Value(ctypes.Union):
        _fields_ = (("pointer", ctypes.c_void_p), ("integer", ctypes.c_int64), ("real", ctypes.c_double))

    _fields_ = (("given", ctypes.c_int64), ("value", _Value))


class RefusedError(ValueError):
    """AITER's host code does not take the call."""


class Host:
    """One of AITER's launch libraries. `tensor` names buffers; `call` returns the launches, addresses given by those names."""

    def __init__(self, library: Path):
        self._library = ctypes.CDLL(str(library))
        self._library.recorder_take.restype = ctypes.c_char_p
        self._names: list[str] = []

    def tensor(self, name: str, dtype: str, *shape: int) -> Tensor:
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        self._names.append(name)
        address = BASE + len(self._names) * SPACING
        return Tensor(address, len(shape), (ctypes.c_int64 * 8)(*shape), (ctypes.c_int64 * 8)(*strides), DTYPES[dtype])

    def call(self, function: str, *args: Any) -> list[dict[str, Any]]:
        """`args` as the C++ function has them: tensors, None, int, float, str. RefusedError with AITER's own words."""
        kept = [a.encode() if isinstance(a, str) else a for a in args]
        slots = (Slot * len(args))(*map(_slot, kept))
        entry = getattr(self._library, f"record_{function}")
        entry.restype = ctypes.c_char_p
        error = entry(slots, len(args))
        actions = [self._action(line) for line in self._library.recorder_take().decode().splitlines()]
        self._names.clear()
        if error is not None:
            raise RefusedError(error.decode())
        return actions

    def _action(self, line: str) -> dict[str, Any]:
        kind, *rest = line.split()
        if kind.startswith("fill"):
            address, value, count = map(int, rest)
            return {"action": kind, "buffer": self._name(address), "value": value, "count": count}
        if kind != "launch":
            return {"action": line}
        symbol, numbers, blob = rest[0], list(map(int, rest[1:7])), bytearray.fromhex(rest[7])
        pointers = {}
        for offset in range(0, len(blob) - 7, 4):
            name = self._name(int.from_bytes(blob[offset : offset + 8], "little"))
            if name:
                pointers[str(offset)] = name
                blob[offset : offset + 8] = bytes(8)
        grid, block = numbers[:3], numbers[3:]
        return {"action": "launch", "symbol": symbol, "grid": grid, "block": block, "args": blob.hex(), "pointers": pointers}

    def _name(self, address: int) -> str | None:
        index, offset = divmod(address - BASE, SPACING)
        if not 1 <= index <= len(self._names) or offset >= 1 << 32:
            return None
        return self._names[index - 1] + (f"+{offset}" if offset else "")


def _slot(value: Any) -> Slot:
    slot = Slot(value is not None)
    if isinstance(value, Tensor):
        slot.value.pointer = ctypes.addressof(value)
    elif isinstance(value, bytes):
        slot.value.pointer = ctypes.cast(ctypes.c_char_p(value), ctypes.c_void_p).value
    elif isinstance(value, float):
        slot.value.real = value
    elif value is not None:
        slot.value.integer = value
    return slot
