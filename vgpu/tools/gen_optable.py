"""Regenerates src/isa/optable.inc: opcode numbers, mnemonics and operand shapes, from LLVM's disassembler.

For every encoding and every opcode value one instruction is made whose register fields are all different; LLVM's text
of it gives the mnemonic, which fields it has, and how wide each one is.

python tools/gen_optable.py [libLLVM.so] > src/isa/optable.inc
"""

from __future__ import annotations

import ctypes
import itertools
import re
import struct
import sys
from collections.abc import Iterator

ARCHS = ("gfx942", "gfx950")
HEADER = """\
// Opcode numbers, LLVM mnemonics and operand shapes of gfx942 (1) and gfx950 (2); derived by asking LLVM to
// disassemble one template per opcode value (tools/gen_optable.py). Generated: do not edit.
// ROW(encoding, opcode, arch mask, mnemonic, operands): role letter + width in dwords, in printing order.
// d vdst/sdst  e vdst naming an SGPR  b sdst of VOP3-SD / sbase  0 1 2 sources or data  a address  s saddr  c VCC
"""
# Field values of the templates, and the role of the operand that shows them.
SCALAR_ROLES = {4: "d", 8: "0", 12: "1"}
VOP_ROLES = {10: "d", 20: "0", 30: "1", 32: "1", 40: "2"}
VOP_SCALAR_ROLES = {0: "b", 10: "e", 8: "0", 12: "1", 16: "2"}
MEMORY_ROLES = {
    "DS": {7: "a", 20: "0", 30: "1", 10: "d"},
    "FLAT": {6: "a", 20: "0", 10: "d"},
    "BUF": {6: "a", 20: "0"},
}


class Disassembler:
    def __init__(self, library: str, cpu: str):
        self.lib = ctypes.CDLL(library)
        for part in ("TargetInfo", "Target", "TargetMC", "Disassembler"):
            getattr(self.lib, "LLVMInitializeAMDGPU" + part)()
        self.lib.LLVMCreateDisasmCPU.restype = ctypes.c_void_p
        self.lib.LLVMDisasmInstruction.restype = ctypes.c_size_t
        target = b"amdgcn-amd-amdhsa"
        self.handle = ctypes.c_void_p(self.lib.LLVMCreateDisasmCPU(target, cpu.encode(), None, 0, None, None))
        self.text = ctypes.create_string_buffer(512)

    def __call__(self, words: list[int]) -> str | None:
        code = struct.pack(f"<{len(words) + 2}I", *words, 0, 0)
        size = self.lib.LLVMDisasmInstruction(self.handle, code, ctypes.c_uint64(len(code)), ctypes.c_uint64(0), self.text,
                                              ctypes.c_size_t(512))  # fmt: skip
        text = self.text.value.decode().strip()
        return text if size and not text.startswith(".long") else None


def vgpr(n: int) -> int:
    return 256 + n


def scalar_templates(encoding: str, op: int) -> Iterator[list[int]]:
    match encoding:
        case "SOP2":
            if op >> 5 != 3:  # those bits are SOPK and SOP1
                yield [0b10 << 30 | op << 23 | 4 << 16 | 12 << 8 | 8]
        case "SOPK":
            if op < 29:
                yield [0b1011 << 28 | op << 23 | 4 << 16 | 1, 0x1234]
        case "SOP1":
            yield from ([0b101111101 << 23 | d << 16 | op << 8 | s] for d in (4, 0) for s in (8, 0))
        case "SOPC":
            yield [0b101111110 << 23 | op << 16 | 12 << 8 | 8]
        case "SOPP":
            yield from ([0b101111111 << 23 | op << 16 | imm] for imm in (1, 0))
        case "SMEM":
            for glc, imm, d, base, offset in itertools.product((0, 1), (1, 0), (8, 0), (4, 0), (0x10, 0)):
                yield [0b110000 << 26 | op << 18 | imm << 17 | glc << 16 | d << 6 | base, offset]


def vector_templates(encoding: str, op: int) -> Iterator[list[int]]:
    match encoding:
        case "VOP2":
            if op < 62:  # above are VOPC and VOP1
                yield [op << 25 | 10 << 17 | 30 << 9 | vgpr(20), 0x40000000]
        case "VOP1":
            yield from ([0b0111111 << 25 | d << 17 | op << 9 | s] for d in (10, 0) for s in (vgpr(20), 0))
        case "VOPC":
            yield [0b0111110 << 25 | op << 17 | 30 << 9 | vgpr(20)]
        case "VOP3":
            if op < 896:  # above is VOP3P
                for s0, s1, s2, d in itertools.product((vgpr(20), 8, 0), (vgpr(30), 12, 0), (vgpr(40), 16, 0), (10, 0)):
                    yield [0b110100 << 26 | op << 16 | d, s0 | s1 << 9 | s2 << 18]
        case "VOP3P":
            for hi in (0, 1):
                for s1, s2 in itertools.product((vgpr(32), 0), (vgpr(40), 0)):
                    yield [0b110100111 << 23 | op << 16 | hi << 14 | 10, vgpr(20) | s1 << 9 | s2 << 18 | 3 * hi << 27]


def memory_templates(encoding: str, op: int) -> Iterator[list[int]]:
    segments = {"FLAT": 0, "SCRATCH": 1, "GLOBAL": 2}
    if encoding == "DS":
        for gds, a, d0, d1, vd in itertools.product((0, 1), (7, 0), (20, 0), (30, 0), (10, 0)):
            yield [0b110110 << 26 | op << 17 | gds << 16, a | d0 << 8 | d1 << 16 | vd << 24]
    elif encoding in segments:
        for sc0, sa, lds, a, d0, vd in itertools.product((0, 1), (0x7F, 0), (0, 1), (6, 0), (20, 0), (10, 0)):
            first = 0b110111 << 26 | op << 18 | sc0 << 16 | segments[encoding] << 14 | lds << 13
            yield [first, a | d0 << 8 | sa << 16 | vd << 24]
    elif encoding == "MUBUF":
        for sc0, lds, d0, a, r, so in itertools.product((0, 1), (0, 1), (20, 0), (6, 0), (3, 0), (3, 0)):
            first = 0b111000 << 26 | op << 18 | sc0 << 14 | lds << 16 | (1 << 12 if a else 0)
            yield [first, a | d0 << 8 | r << 16 | so << 24]
    elif encoding == "MTBUF":
        yield [0b111010 << 26 | op << 15 | 4 << 19 | 1 << 23 | 1 << 12, 6 | 20 << 8 | 3 << 16 | 3 << 24]


ENCODINGS = {
    "SOP2": (scalar_templates, 128), "SOPK": (scalar_templates, 32), "SOP1": (scalar_templates, 256),
    "SOPC": (scalar_templates, 128), "SOPP": (scalar_templates, 128), "SMEM": (scalar_templates, 256),
    "VOP2": (vector_templates, 64), "VOP1": (vector_templates, 256), "VOPC": (vector_templates, 256),
    "VOP3": (vector_templates, 1024), "VOP3P": (vector_templates, 128), "DS": (memory_templates, 256),
    "FLAT": (memory_templates, 128), "SCRATCH": (memory_templates, 128), "GLOBAL": (memory_templates, 128),
    "MUBUF": (memory_templates, 128), "MTBUF": (memory_templates, 16),
}  # fmt: skip


def register(token: str) -> tuple[str, int, int] | None:
    """Kind, first number and width of a register operand."""
    if m := re.fullmatch(r"([vsa])\[(\d+):(\d+)\]", token):
        return m[1], int(m[2]), int(m[3]) - int(m[2]) + 1
    if m := re.fullmatch(r"([vsa])(\d+)", token):
        return m[1], int(m[2]), 1
    return None


def role(encoding: str, name: str, kind: str, number: int, position: int) -> str | None:
    if encoding.startswith("SOP"):
        return "d" if encoding == "SOPK" else SCALAR_ROLES.get(number)
    if encoding == "SMEM":
        data = position == 0 and number == 8 and not name.startswith("s_dcache") and not name.startswith("s_atc")
        return "d" if data else "b"
    if encoding.startswith("VOP"):
        return (VOP_SCALAR_ROLES if kind == "s" else VOP_ROLES).get(number)
    if kind == "s":
        return "s" if encoding in ("GLOBAL", "SCRATCH") else None
    group = "BUF" if encoding in ("MUBUF", "MTBUF") else "DS" if encoding == "DS" else "FLAT"
    return MEMORY_ROLES[group].get(number)


def shape(encoding: str, name: str, text: str) -> str:
    # These print immediates or 'off' where the instruction has registers.
    if name == "v_writelane_b32":
        return "d1,01,11"
    if name == "v_readlane_b32":
        return "e1,01,11"
    if encoding == "SCRATCH":
        width = {"x2": 2, "x3": 3, "x4": 4}.get(name[-2:], 1)
        return f"0{width},a1" if "store" in name else "a1" if "lds" in name else f"d{width},a1"
    operands: list[str] = []
    for item in text.split(None, 1)[1].split(", ") if " " in text else []:
        token = item.split()[0]
        if token == "vcc":
            operands.append("c2")
        elif found := register(token):
            kind, number, width = found
            if letter := role(encoding, name, kind, number, len(operands)):
                operands.append(f"{letter}{width}")
    return ",".join(operands)


def main() -> None:
    library = sys.argv[1] if len(sys.argv) > 1 else "libLLVM.so.22.1"
    machines = [Disassembler(library, arch) for arch in ARCHS]
    print(HEADER, end="")
    for encoding, (templates, count) in ENCODINGS.items():
        for op in range(count):
            rows: dict[tuple[str, str], int] = {}
            for bit, machine in enumerate(machines):
                for words in templates(encoding, op):
                    if text := machine(words):
                        name = text.split(None, 1)[0]
                        key = name, shape(encoding, name, text)
                        rows[key] = rows.get(key, 0) | 1 << bit
                        break
            for (name, operands), mask in rows.items():
                print(f'ROW({encoding}, {op}, {mask}, "{name}", "{operands}")')


if __name__ == "__main__":
    main()
