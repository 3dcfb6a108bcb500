"""One vector instruction in the forms it has: as kernel text plus what the oracle needs to know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import oracle
from kernels import DEFAULT_MODE, Mode, kernel
from opcodes import Opcode
from operand_types import result_type, source_type

# Registers: sources at v10, v12, v14 (up to four dwords), the old destination at v18. All are loaded.
SOURCE = {"0": 10, "1": 12, "2": 14}
OLD, INPUTS = 18, 12
VCC, MASK, EXEC = 0x0123456789ABCDEF, 0xF0F0_3C5A_96A5_0FF0, 0x8000_FFFF_1234_5671
SCALAR = 0x4048_F5C3_C2B1_9C28
LITERAL = 0x40A0_1234
MASK_SOURCES = ("v_cndmask_b32", "v_addc_co_u32", "v_subb_co_u32", "v_subbrev_co_u32")
LITERAL_K = ("v_madmk_f16", "v_madak_f16", "v_fmamk_f32", "v_fmaak_f32", "v_madmk_f32", "v_madak_f32")


class Case(NamedTuple):
    name: str
    op: Opcode
    text: str
    sources: tuple[tuple[str, int], ...]  # per source: ("v", register), ("bits", value), ("mask", value)
    widths: tuple[int, ...]  # dwords of each source
    destination: int  # first VGPR
    exec: int = (1 << 64) - 1
    negate: int = 0
    absolute: int = 0
    omod: int = 0
    clamp: bool = False
    mode: Mode = Mode()


def registers(first: int, dwords: int, letter: str = "v") -> str:
    return f"{letter}{first}" if dwords == 1 else f"{letter}[{first}:{first + dwords - 1}]"


def constant_bits(kind: str, text: str) -> int:
    """What an inline constant stands for in an operand of this type."""
    if "." not in text:
        return int(text) & ((1 << 64) - 1)
    from fractions import Fraction

    from pcode.values import round_to

    target = {"f16": ("f", 16), "bf16": ("f", 32), "f64": ("f", 64)}.get(kind, ("f", 32))
    return round_to(*target, Fraction(float(text))).bits


def variants(op: Opcode) -> Iterator[Case]:
    """The plain form with every optional one that the encoding offers; the assembler rejects what does not exist."""
    text = oracle.program(op.base)
    kinds = [source_type(text, i) for i in range(3)]
    roles = [r for r, _ in op.operands if r in "012"]
    result = result_type(text)
    vop3 = op.encoding == "VOP3"
    yield build(op, "vector")
    if op.mnemonic.endswith("_e64"):  # the short encoding has been through the other forms with the same lane kernel
        yield from modified(op, roles, kinds, result)
        return
    yield build(op, "overlap", destination=10 if op.width("d") <= 2 else 14)
    constant = {"int": "-7", "f16": "0.5"}.get(kinds[0], "-4.0")
    if op.encoding != "VOP3P" and roles:
        yield build(op, "constant", replace={"0": ("bits", constant_bits(kinds[0], constant), constant)}, exec_mask=EXEC)
        if op.width("0") <= 2:
            yield build(op, "scalar", replace={"0": ("bits", SCALAR, registers(20, op.width("0"), "s"))})
        if op.encoding in ("VOP1", "VOP2", "VOPC") and op.base not in LITERAL_K:
            bits = LITERAL << 32 if kinds[0] == "f64" else LITERAL
            yield build(op, "literal", replace={"0": ("bits", bits, hex(LITERAL))})
    if op.base in FLUSHABLE:
        yield build(op, "flush", mode=Mode(denorm_32=0, denorm_16_64=0))
    if vop3:
        yield from modified(op, roles, kinds, result)


def modified(op: Opcode, roles: list[str], kinds: list[str], result: str) -> Iterator[Case]:
    """VOP3's modifiers, where there is a floating-point operand."""
    if any(kinds[int(r)] != "int" for r in roles) and "_pk_" not in op.base:
        yield build(op, "neg_abs", negate=0b101, absolute=0b110)
        if result in ("f16", "f32", "f64") and not op.base.startswith(("v_pack", "v_cvt_pk")):
            yield build(op, "clamp", negate=0b010, clamp=True)
            yield build(op, "clamp_nan", clamp=True, mode=Mode(dx10_clamp=False))
        if op.base in FLUSHABLE:  # omod works only where denormal results are flushed
            yield build(op, "omod", omod=2, mode=Mode(denorm_32=0, denorm_16_64=0, ieee=False))


FLUSHABLE = {f"v_{n}_{t}" for t in ("f32", "f16", "f64") for n in ("add", "sub", "subrev", "mul", "fma", "fmac", "ldexp")}


def build(
    op: Opcode,
    variant: str,
    *,
    destination: int = OLD,
    replace: dict | None = None,
    exec_mask: int = (1 << 64) - 1,
    negate: int = 0,
    absolute: int = 0,
    omod: int = 0,
    clamp: bool = False,
    mode: Mode = DEFAULT_MODE,
) -> Case:
    text = oracle.program(op.base)
    replace = replace or {}
    operands, sources, widths = [], [], []
    for role, width in op.operands:
        if role == "d":
            operands.append(registers(destination, width))
        elif role in ("b", "e"):
            operands.append("s[10:11]")
        elif role == "c":
            operands.append("vcc")
        elif role == "2" and op.base in MASK_SOURCES:
            operands.append("s[12:13]")
        elif role in replace:
            sources.append(replace[role][:2])
            widths.append(width)
            operands.append(replace[role][2])
        else:
            index = int(role)
            register = registers(SOURCE[role], width)
            if source_type(text, index) != "int":
                register = f"|{register}|" if absolute >> index & 1 else register
                register = f"-{register}" if negate >> index & 1 else register
            sources.append(("v", SOURCE[role]))
            widths.append(width)
            operands.append(register)
    if op.base in LITERAL_K:
        operands.insert(2 if "mk" in op.base else 3, hex(LITERAL & (0xFFFF if "f16" in op.base else 0xFFFFFFFF)))
    suffix = (" clamp" if clamp else "") + {0: "", 1: " mul:2", 2: " mul:4", 3: " div:2"}[omod]
    mnemonic = op.mnemonic
    body = f"""
  s_mov_b32 vcc_lo, {VCC & 0xFFFFFFFF:#x}
  s_mov_b32 vcc_hi, {VCC >> 32:#x}
  s_mov_b32 s12, {MASK & 0xFFFFFFFF:#x}
  s_mov_b32 s13, {MASK >> 32:#x}
  s_mov_b32 s20, {SCALAR & 0xFFFFFFFF:#x}
  s_mov_b32 s21, {SCALAR >> 32:#x}
  s_mov_b64 s[10:11], 0
  s_mov_b32 exec_lo, {exec_mask & 0xFFFFFFFF:#x}
  s_mov_b32 exec_hi, {exec_mask >> 32:#x}
  {mnemonic} {", ".join(operands)}{suffix}
  s_mov_b64 s[14:15], exec
"""
    name = f"{op.mnemonic}__{variant}"
    width = max(op.width("d"), 1)
    outputs = [f"v{destination + i}" for i in range(width)] + ["vcc_lo", "vcc_hi", "s10", "s11", "s14", "s15", "v10"]
    return Case(
        name,
        op,
        kernel(name, body, INPUTS, outputs, mode),
        tuple(sources),
        tuple(widths),
        destination,
        exec_mask,
        negate,
        absolute,
        omod,
        clamp,
        mode,
    )
