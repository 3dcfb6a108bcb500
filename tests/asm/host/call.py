"""Calling AITER's launch functions with tensors that are only addresses, and reading what was recorded."""

import ctypes
import math
from pathlib import Path
from typing import Any

# AiterDtype's numbers.
DTYPES = {"fp8": 0, "fp16": 2, "bf16": 3, "fp32": 4, "u32": 7, "i32": 8, "i8": 10, "u8": 11, "i64": 12, "u64": 13}
SIZES = {"fp8": 1, "fp16": 2, "bf16": 2, "fp32": 4, "u32": 4, "i32": 4, "i8": 1, "u8": 1, "i64": 8, "u64": 8}
# Buffers lie this far apart, behind an address that no size or stride next to another looks like.
SPACING = 1 << 40
BASE = 0x7EC5 << 48


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("ptr", ctypes.c_void_p),
        ("numel", ctypes.c_size_t),
        ("ndim", ctypes.c_int),
        ("shape", ctypes.c_int64 * 8),
        ("strides", ctypes.c_int64 * 8),
        ("dtype", ctypes.c_int),
        ("device", ctypes.c_int),
    )


class Host:
    """One of AITER's launch libraries. `tensor` names buffers; `call` returns the launches, addresses given by those names."""

    def __init__(self, library: Path):
        self._recorder = ctypes.CDLL(str(library.parent / "librecorder.so"), mode=ctypes.RTLD_GLOBAL)
        self._recorder.recorder_take.restype = ctypes.c_char_p
        self._library = ctypes.CDLL(str(library))
        self._names: list[str] = []

    def tensor(self, name: str, dtype: str, *shape: int) -> Any:
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        self._names.append(name)
        address = BASE + len(self._names) * SPACING
        sizes, steps = (ctypes.c_int64 * 8)(*shape), (ctypes.c_int64 * 8)(*strides)
        return ctypes.byref(_Tensor(address, math.prod(shape), len(shape), sizes, steps, DTYPES[dtype], 0))

    def call(self, function: str, *args: Any) -> list[dict[str, Any]]:
        """`args` as the C function has them: tensors, None, int, float, str; the stream is added."""
        passed = [_argument(a) for a in args] + [ctypes.c_void_p(0)]
        entry = getattr(self._library, function)
        entry.restype = ctypes.c_int
        self._recorder.recorder_take()
        entry(*passed)
        if hasattr(self._library, "aiter_get_last_error"):
            self._library.aiter_get_last_error.restype = ctypes.c_char_p
            error = self._library.aiter_get_last_error()
            if error:
                raise ValueError(error.decode())
        actions = [self._action(line) for line in self._recorder.recorder_take().decode().splitlines()]
        self._names.clear()
        return actions

    def _action(self, line: str) -> dict[str, Any]:
        kind, *rest = line.split()
        if kind.startswith("fill"):
            address, value, count = map(int, rest)
            return {"action": kind, "buffer": self._name(address), "value": value, "count": count}
        if kind != "launch":
            return {"action": line}
        symbol, numbers, blob = rest[0], list(map(int, rest[1:8])), bytearray.fromhex(rest[8])
        pointers = {}
        for offset in range(0, len(blob) - 7, 4):
            name = self._name(int.from_bytes(blob[offset : offset + 8], "little"))
            if name:
                pointers[str(offset)] = name
                blob[offset : offset + 8] = bytes(8)
        grid, block = numbers[:3], numbers[3:6]
        return {"action": "launch", "symbol": symbol, "grid": grid, "block": block, "args": blob.hex(), "pointers": pointers}

    def _name(self, address: int) -> str | None:
        index, offset = divmod(address - BASE, SPACING)
        if not 1 <= index <= len(self._names) or offset >= 1 << 32:
            return None
        return self._names[index - 1] + (f"+{offset}" if offset else "")


def _argument(value: Any) -> Any:
    if value is None:
        return ctypes.c_void_p(0)
    if isinstance(value, float):
        return ctypes.c_float(value)
    if isinstance(value, int):
        return ctypes.c_int(value)
    return ctypes.c_char_p(value.encode()) if isinstance(value, str) else value
