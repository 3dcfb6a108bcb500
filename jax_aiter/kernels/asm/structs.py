"""Argument structs of AITER's kernels, declared as data: packing follows from the declaration, and so does a printed listing."""

from __future__ import annotations

import dataclasses
from typing import Any

from jax_aiter.kernels.args import KernelArgs, PlanError, Pointer, Scalar

POINTER = "ptr"


@dataclasses.dataclass(frozen=True)
class Field:
    """One member: its name, ``"ptr"`` or a scalar type (``"u32"``, ``"i32"``, ``"fp32"``, ``"u64"`` ...), and what it holds."""

    name: str
    type: str
    holds: str = ""


@dataclasses.dataclass(frozen=True)
class ArgStruct:
    """The arguments of one kernel family.

    source: the host code in AITER that fills the struct. slot: every member begins at a multiple of this many bytes; None for C's
    natural alignment. Members a kernel has but AITER leaves unset are fields too, given as 0 or None.
    """

    name: str
    source: str
    fields: tuple[Field, ...]
    slot: int | None = 16

    def pack(self, **values: Pointer | float | bool | None) -> list[Pointer | Scalar]:
        """Arguments for `PlanBuilder.launch`, in order. PlanError names a member that is missing, unknown or out of range."""
        unknown = sorted(values.keys() - {f.name for f in self.fields})
        missing = [f.name for f in self.fields if f.name not in values]
        if unknown or missing:
            raise PlanError(f"{self.name}: members missing {missing}, unknown {unknown}")
        return [self._argument(f, values[f.name]) for f in self.fields]

    def _argument(self, field: Field, value: Any) -> Pointer | Scalar:
        if field.type == POINTER:
            if value is None:
                return Scalar("u64", 0)
            if not isinstance(value, Pointer):
                raise PlanError(f"{self.name}.{field.name}: expected a Pointer or None, got {value!r}")
            return value
        scalar = Scalar(field.type, value)
        try:
            scalar.to_bytes()
        except PlanError as error:
            raise PlanError(f"{self.name}.{field.name}: {error}") from None
        return scalar

    def listing(self, args: KernelArgs) -> str:
        """The struct's members next to a packed block's bytes."""
        lines = [f"{self.name} ({self.source}), {len(args.blob)} bytes"]
        slots = {s.offset: s for s in args.pointers}
        for field, param in zip(self.fields, args.params, strict=True):
            data = args.blob[param.offset : param.offset + param.size]
            slot = slots.get(param.offset)
            text = f"buffer {slot.buffer} + {slot.byte_offset}" if slot else data[::-1].hex()
            lines.append(f"{param.offset:4d}  {field.type:5s} {field.name:24s} {text:18s} {field.holds}".rstrip())
        return "\n".join(lines)


def struct(name: str, source: str, *fields: str, slot: int | None = 16) -> ArgStruct:
    """An ArgStruct from lines of ``"type name what it holds"``."""
    parts = [line.split(maxsplit=2) for line in fields]
    return ArgStruct(name, source, tuple(Field(p[1], p[0], p[2] if len(p) > 2 else "") for p in parts), slot)
