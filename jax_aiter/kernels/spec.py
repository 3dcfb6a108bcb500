"""What providers that record know about a call: names, shapes, dtypes, parameters, target. No arrays, no torch.

The same description is used in the user's process (refusal rules, cache keys) and in the recording worker, which has
torch but need not have jax; so dtypes are plain names here ("bfloat16", "float8_e4m3fn") and everything is JSON.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

ITEMSIZE = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8,
    "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip

#: fp8 e4m3 variant each target computes in.
FP8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn", "sm_90": "float8_e4m3fn"}
ARCHS = tuple(FP8)
#: local data share / shared memory one workgroup may use, bytes.
SHARED_LIMIT = {"gfx942": 64 << 10, "gfx950": 160 << 10, "sm_90": 227 << 10}
#: compute units (SMs for NVIDIA) that grids are sized for: MI300X, MI350X, H200.
COMPUTE_UNITS = {"gfx942": 304, "gfx950": 256, "sm_90": 132}

#: entries of a kernel's configuration by name, "part.NAME" where a call has several kernels that are configured apart; what is not
#: named is AITER's. Numbers, and the names of cache modifiers.
Tile = Mapping[str, int | str]


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """Shape and dtype name of one operand or result; always dense row-major, as XLA hands buffers to a custom call."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * ITEMSIZE[self.dtype]


#: of the parts of a composed op, no parameter of any op: see `kernels.triton.moe.grouped.exact`.
EXACT_GROUPS = "exact_groups"


@dataclasses.dataclass(frozen=True)
class CallSpec:
    """One call of one op for one target. Operand order is the order of the custom call's operands."""

    op: str
    arch: str
    operands: dict[str, ArraySpec]
    params: dict[str, Any]
    results: tuple[ArraySpec, ...]
    tile: Tile = dataclasses.field(
        default_factory=dict
    )  # chosen by the provider (see tiles.choose), not by whoever describes the call

    def __getitem__(self, operand: str) -> ArraySpec:
        return self.operands[operand]

    def has(self, operand: str) -> bool:
        return operand in self.operands

    @property
    def fp8(self) -> str:
        return FP8[self.arch]

    def to_json(self) -> dict[str, Any]:
        described = {
            "op": self.op,
            "arch": self.arch,
            "operands": [[name, list(spec.shape), spec.dtype] for name, spec in self.operands.items()],
            "params": {name: _plain(value) for name, value in sorted(self.params.items())},
            "results": [[list(spec.shape), spec.dtype] for spec in self.results],
        }
        return (
            {**described, "tile": dict(sorted(self.tile.items()))} if self.tile else described
        )  # plans without one keep their keys

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CallSpec:
        return cls(
            op=data["op"],
            arch=data["arch"],
            operands={name: ArraySpec(tuple(shape), dtype) for name, shape, dtype in data["operands"]},
            params={name: _tuple(value) for name, value in data["params"].items()},
            results=tuple(ArraySpec(tuple(shape), dtype) for shape, dtype in data["results"]),
            tile=data.get("tile", {}),
        )

    @classmethod
    def of(cls, call: Any) -> CallSpec:
        """The description of a provider `Call` (jax_aiter.kernels.provider)."""
        return cls(
            op=call.op,
            arch=call.target.arch,
            operands={name: _array(value) for name, value in call.operands.items()},
            params={name: _plain(value) for name, value in call.params.items()},
            results=tuple(_array(value) for value in call.results),
        )


def _array(value: Any) -> ArraySpec:
    return ArraySpec(tuple(int(n) for n in value.shape), dtype_name(value.dtype))


def dtype_name(dtype: Any) -> str:
    """The dtype's plain name for a numpy / ml_dtypes dtype, scalar type or name."""
    if isinstance(dtype, str):
        return dtype
    import numpy as np

    return np.dtype(dtype).name


def _plain(value: Any) -> Any:
    """`value` as JSON; a dtype becomes its name. Anything else is an error: it would not take part in the key."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, type) or type(value).__module__.split(".")[0] in ("numpy", "ml_dtypes", "jax"):
        item = getattr(value, "item", None)
        return item() if callable(item) and getattr(value, "shape", None) == () else dtype_name(value)
    raise TypeError(f"a static parameter must be a number, string, dtype or tuple of these, got {value!r}")


def _tuple(value: Any) -> Any:
    return tuple(_tuple(v) for v in value) if isinstance(value, list) else value
