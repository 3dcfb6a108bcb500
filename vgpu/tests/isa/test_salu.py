"""Every scalar ALU opcode against AMD's pseudo-code: each workgroup is one vector of operands."""

from __future__ import annotations

import assembler
import numpy as np
import opcodes
import oracle
import pytest
from kernels import HEADER, kernel
from pcode.interpreter import Interpreter
from pcode.values import make
from valu_check import launch
from vectors import fill

# Control flow, MODE access, relative moves and hardware-only instructions are tested in test_control, or refused.
SKIPPED = {
    "s_getpc_b64",
    "s_setpc_b64",
    "s_swappc_b64",
    "s_rfe_b64",
    "s_rfe_restore_b64",
    "s_cbranch_join",
    "s_cbranch_g_fork",
    "s_cbranch_i_fork",
    "s_call_b64",
    "s_getreg_b32",
    "s_setreg_b32",
    "s_setreg_imm32_b32",
    "s_movrels_b32",
    "s_movrels_b64",
    "s_movreld_b32",
    "s_movreld_b64",
    "s_set_gpr_idx_idx",
    "s_set_gpr_idx_on",
    "s_setvskip",
}
IMMEDIATES = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x1234)
EXEC = 0xFFFF_FFFF_0F0F_1234
VECTORS = 96


def covered() -> list[opcodes.Opcode]:
    return [op for op in opcodes.rows("gfx942") if op.encoding in ("SOP1", "SOP2", "SOPC", "SOPK") and op.base not in SKIPPED]


def texts_of(op: opcodes.Opcode) -> dict[str, str]:
    """Operands: source 0 in s[20:21], source 1 in s[22:23], old destination in s[24:25], SCC from s26."""
    names = {"d": 24, "0": 20, "1": 22}
    operands = []
    for role, width in op.operands:
        first = names[role]
        operands.append(f"s{first}" if width == 1 else f"s[{first}:{first + width - 1}]")
    out = {}
    for imm in IMMEDIATES if op.encoding == "SOPK" else (None,):
        shown = ", ".join([*operands, *([hex(imm)] if imm is not None else [])])
        body = f"""
  s_load_dwordx8 s[20:27], s[4:5], -0x1000
  s_waitcnt lgkmcnt(0)
  s_mov_b32 exec_lo, {EXEC & 0xFFFFFFFF:#x}
  s_mov_b32 exec_hi, {EXEC >> 32:#x}
  s_bitcmp1_b32 s26, 0
  {op.mnemonic} {shown}
  s_cselect_b32 s28, 1, 0
  s_mov_b64 s[30:31], exec
"""
        name = op.mnemonic + ("" if imm is None else f"__{imm:x}")
        out[name] = kernel(name, body, 1, ["s24", "s25", "s28", "s30", "s31"])
    return out


@pytest.fixture(scope="module")
def module(machines):
    machine = machines("gfx942")
    kernels = {name: text for op in covered() for name, text in texts_of(op).items()}
    image, rejected = assembler.assemble_valid(kernels, "gfx942", HEADER)
    assert not rejected
    return machine, machine.load(image)


@pytest.mark.parametrize("op", covered(), ids=lambda op: op.mnemonic)
def test_opcode(module, op):
    machine, loaded = module
    if not machine.lib.vgpu_isa_executable(b"gfx942", op.base.encode()):
        pytest.skip(f"{op.mnemonic} decodes but is not executable")
    text = oracle.program(op.base)
    for name in texts_of(op):
        rng = np.random.default_rng(sum(name.encode()))
        data = np.zeros((VECTORS, 1, 64), np.uint32)
        data[:, 0, :8] = fill(rng, "int", 8, VECTORS).T
        out = launch(machine, loaded, name, data, 5)
        imm = int(name.split("__")[1], 16) if op.encoding == "SOPK" else None
        for i in range(VECTORS):
            words = [int(x) for x in data[i, 0, :8]]
            pair = [words[2 * j] | words[2 * j + 1] << 32 for j in range(3)]
            width = max(op.width("d"), 1) * 32
            store = {
                "S0": make("b", 64, pair[0]),
                "S1": make("b", 64, pair[1]),
                "SCC": make("b", 1, words[6] & 1),
                "D0": make("b", width, pair[2]),
                "EXEC": make("b", 64, EXEC),
            }
            if imm is not None:
                if op.base.startswith("s_cmpk"):
                    store["S0"], store["S1"] = make("b", 32, words[4]), make("b", 16, imm)
                else:
                    store["S0"] = make("b", 16, imm)
            interpreter = Interpreter(store)
            interpreter.run(text)
            got = int(out[i, 0, 0]) | int(out[i, 1, 0]) << 32
            written = op.width("d") and not op.base.startswith("s_cmpk")
            want = (pair[2] & ~((1 << width) - 1)) | store["D0"].bits if written else pair[2]
            context = f"{name}({pair[0]:#x}, {pair[1]:#x}) old {pair[2]:#x} scc {words[6] & 1}"
            assert got == want, f"{context} gave {got:#x}, expected {want:#x}"
            assert int(out[i, 2, 0]) == store["SCC"].bits & 1, f"{context}: SCC"
            after = int(out[i, 3, 0]) | int(out[i, 4, 0]) << 32
            assert after == store["EXEC"].bits, f"{context}: EXEC is {after:#x}"
