"""The interpreter's own opcode table, read from its source: what there is to test, with operand shapes."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).resolve().parents[2] / "src" / "isa" / "optable.inc"
_ROW = re.compile(r'ROW\((\w+), (\d+), (\d), "(\w+)", "([^"]*)"\)')
ARCH_BIT = {"gfx942": 1, "gfx950": 2}


class Opcode(NamedTuple):
    encoding: str
    number: int
    archs: int
    mnemonic: str
    operands: tuple[tuple[str, int], ...]  # (role, dwords) in printing order

    @property
    def base(self) -> str:
        return self.mnemonic.removesuffix("_e32").removesuffix("_e64")

    def width(self, role: str) -> int:
        return next((w for r, w in self.operands if r == role), 0)


@functools.cache
def rows(arch: str) -> tuple[Opcode, ...]:
    out = []
    for encoding, number, archs, mnemonic, shape in _ROW.findall(TABLE.read_text()):
        if int(archs) & ARCH_BIT[arch]:
            operands = tuple((part[0], int(part[1:])) for part in shape.split(",") if part)
            out.append(Opcode(encoding, int(number), int(archs), mnemonic, operands))
    return tuple(out)
