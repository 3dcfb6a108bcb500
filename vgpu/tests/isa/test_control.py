"""Branches, calls, hardware registers, register indices, and the instructions that must change nothing."""

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

VECTORS = 16
# Inputs s20: SCC in bit 0; s[22:23] VCC, s[24:25] EXEC; s26, s27 free. Results s28..; afterwards SCC, VCC and EXEC as they are.
SETUP = """
  s_load_dwordx8 s[20:27], s[4:5], -0x1000
  s_waitcnt lgkmcnt(0)
  s_mov_b64 vcc, s[22:23]
  s_mov_b64 exec, s[24:25]
  s_mov_b32 m0, 0x12345678
  s_bitcmp1_b32 s20, 0
"""
READ = """
  s_cselect_b32 s36, 1, 0
  s_mov_b64 s[38:39], vcc
  s_mov_b64 s[40:41], exec
  s_mov_b32 s42, m0
"""
OUTPUTS = [f"s{i}" for i in range(28, 36)] + ["s36", "s38", "s39", "s40", "s41", "s42", "v10"]
BRANCHES = [op.base for op in opcodes.rows("gfx942") if op.encoding == "SOPP" and "branch" in op.base]
NOTHING = {
    **{n: f"{n} 0" for n in ("s_nop", "s_sleep", "s_setprio", "s_sethalt", "s_incperflevel", "s_decperflevel")},
    "s_waitcnt": "s_waitcnt vmcnt(0) lgkmcnt(0)",
    "s_sendmsg": "s_sendmsg sendmsg(MSG_INTERRUPT)",
    "s_barrier": "s_barrier",  # of a single wave
    **{n: n for n in ("s_wakeup", "s_icache_inv", "s_ttracedata", "s_set_gpr_idx_off")},
    **{n: n for n in ("s_dcache_inv", "s_dcache_wb", "s_dcache_inv_vol", "s_dcache_wb_vol")},
    **{n: f"{n} s[4:5], 0x0" for n in ("s_dcache_discard", "s_dcache_discard_x2")},
    "v_nop": "v_nop",
    "v_clrexcp": "v_clrexcp",
    "ds_nop": "ds_nop",
    **{n: n for n in ("buffer_wbl2", "buffer_inv")},
}
CALLS = {
    # The address after the instruction, twice: eight bytes lie between (an s_nop and the second instruction itself).
    "getpc": "  s_getpc_b64 s[28:29]\n  s_nop 0\n  s_getpc_b64 s[30:31]\n  s_sub_u32 s28, s30, s28\n  s_mov_b64 s[30:31], 0\n"
    "  s_mov_b32 s29, 0",
    # Over the two instructions that would spoil s28.
    "setpc": "  s_movk_i32 s28, 7\n  s_getpc_b64 s[30:31]\n  s_add_u32 s30, s30, 20\n  s_addc_u32 s31, s31, 0\n"
    "  s_setpc_b64 s[30:31]\n  s_movk_i32 s28, 8\n  s_movk_i32 s28, 9\n  s_mov_b64 s[30:31], 0",
    # There and back; the subroutine lies behind a branch.
    "swappc": "  s_getpc_b64 s[30:31]\n  s_add_u32 s30, s30, 24\n  s_addc_u32 s31, s31, 0\n  s_swappc_b64 s[34:35], s[30:31]\n"
    "  s_addk_i32 s28, 0x100\n  s_branch end_{name}\n  s_nop 0\n  s_movk_i32 s28, 5\n  s_setpc_b64 s[34:35]\nend_{name}:\n"
    "  s_mov_b64 s[30:31], 0\n  s_mov_b64 s[34:35], 0",
    "call": "  s_call_b64 s[34:35], sub_{name}\n  s_addk_i32 s28, 0x100\n  s_branch end_{name}\nsub_{name}:\n  s_movk_i32 s28, 5\n"
    "  s_setpc_b64 s[34:35]\nend_{name}:\n  s_mov_b64 s[34:35], 0",
}
CALL_RESULTS = {"getpc": 8, "setpc": 7, "swappc": 0x105, "call": 0x105}
FIELDS = [(0, 4), (4, 4), (0, 10), (2, 3), (8, 1), (9, 1)]  # offset and size within the supported bits of MODE
SAVE_MODE = "  s_getreg_b32 s33, hwreg(HW_REG_MODE)\n"
RESTORE_MODE = "\n  s_setreg_b32 hwreg(HW_REG_MODE), s33\n"
INDICES = {
    "movrels_b32": "  s_mov_b32 m0, 3\n  s_movrels_b32 s28, s20",
    "movrels_b64": "  s_mov_b32 m0, 4\n  s_movrels_b64 s[28:29], s[20:21]",
    "movreld_b32": "  s_mov_b32 m0, 2\n  s_movreld_b32 s28, s21",
    "movreld_b64": "  s_mov_b32 m0, 4\n  s_movreld_b64 s[28:29], s[22:23]",
    "set_gpr_idx_idx": "  s_set_gpr_idx_idx s26",
    "set_gpr_idx_mode": "  s_set_gpr_idx_mode 0x9",
    "set_gpr_idx_on": "  s_set_gpr_idx_on s26, 0x6\n  s_set_gpr_idx_off",
}


def bodies() -> dict[str, str]:
    out = {f"branch_{b}": f"  {b} over_branch_{b}\n  s_mov_b32 s28, 1\nover_branch_{b}:" for b in BRANCHES}
    out |= {f"nothing_{n}": f"  {text}" for n, text in NOTHING.items()}
    out |= {f"call_{n}": text.format(name=n) for n, text in CALLS.items()}
    out |= {f"index_{n}": text for n, text in INDICES.items()}
    for i, (offset, size) in enumerate(FIELDS):
        field = f"hwreg(HW_REG_MODE, {offset}, {size})"
        out[f"getreg_{i}"] = f"  s_getreg_b32 s28, {field}"
        out[f"setreg_{i}"] = f"{SAVE_MODE}  s_setreg_b32 {field}, s26\n  s_getreg_b32 s29, hwreg(HW_REG_MODE){RESTORE_MODE}"
        out[f"setreg_imm_{i}"] = (
            f"{SAVE_MODE}  s_setreg_imm32_b32 {field}, 0x2a5\n  s_getreg_b32 s29, hwreg(HW_REG_MODE){RESTORE_MODE}"
        )
    out["getreg_status"] = "  s_getreg_b32 s28, hwreg(HW_REG_STATUS)"
    out["memtime"] = "  s_memtime s[28:29]\n  s_nop 0\n  s_memtime s[30:31]\n  s_waitcnt lgkmcnt(0)"
    out["memrealtime"] = "  s_memrealtime s[28:29]\n" + "  s_nop 0\n" * 40 + "  s_memrealtime s[30:31]\n  s_waitcnt lgkmcnt(0)"
    clear = "".join(f"  s_mov_b32 s{i}, 0\n" for i in range(28, 36))
    return {n: SETUP.replace("  s_bitcmp1", clear + "  s_bitcmp1") + text + READ for n, text in out.items()}


@pytest.fixture(scope="module")
def run(machines):
    machine = machines("gfx942")
    texts = {f"ctl_{n}": kernel(f"ctl_{n}", body, 1, OUTPUTS) for n, body in bodies().items()}
    image, rejected = assembler.assemble_valid(texts, "gfx942", HEADER)
    assert not rejected, rejected
    module = machine.load(image)
    rng = np.random.default_rng(11)
    data = rng.integers(0, 1 << 32, (VECTORS, 1, 64), dtype=np.uint32)
    data[::4, 0, 2:4] = 0  # VCC zero
    data[::3, 0, 4:6] = 0  # EXEC zero

    def go(name: str):
        """Per vector: (input dwords, results s28.., (SCC, VCC, EXEC, M0))."""
        out = launch(machine, module, f"ctl_{name}", data, len(OUTPUTS))[:, :, 0]
        for row, r in zip(data[:, 0], out, strict=True):
            after = (int(r[8]), int(r[9]) | int(r[10]) << 32, int(r[11]) | int(r[12]) << 32, int(r[13]))
            yield [int(x) for x in row[:8]], [int(x) for x in r[:8]], after

    return go


def before(words: list[int]) -> tuple[int, int, int, int]:
    return words[0] & 1, words[2] | words[3] << 32, words[4] | words[5] << 32, 0x12345678


@pytest.mark.parametrize("base", BRANCHES)
def test_branch(run, base):
    for words, results, after in run(f"branch_{base}"):
        scc, vcc, exec_, _ = before(words)
        store = {
            "PC": make("i", 64, 0x1000),
            "SIMM16": make("b", 16, 1),  # over one dword
            "SCC": make("b", 1, scc),
            "VCCZ": make("b", 1, int(vcc == 0)),
            "EXECZ": make("b", 1, int(exec_ == 0)),
            **{f"WAVE_STATUS.COND_DBG_{n}": make("u", 32, 0) for n in ("USER", "SYS")},
        }
        Interpreter(store).run(oracle.program(base))
        taken = store["PC"].bits == 0x1000 + 4 + 4
        assert results[0] == (0 if taken else 1), (base, words)
        assert after == before(words)


@pytest.mark.parametrize("name", NOTHING)
def test_no_effect(run, name):
    for words, results, after in run(f"nothing_{name}"):
        assert after == before(words)
        assert results == [0] * 8


@pytest.mark.parametrize("name", CALLS)
def test_program_counter(run, name):
    for _, results, _ in run(f"call_{name}"):
        assert results == [CALL_RESULTS[name], *[0] * 7]


@pytest.mark.parametrize("index", range(len(FIELDS)))
def test_mode_register(run, index):
    """The kernel's descriptor asks for all denormals (bits 7:4), DX10_CLAMP (8) and IEEE (9)."""
    start, (offset, size) = 0x3F0, FIELDS[index]
    mask = ((1 << size) - 1) << offset
    for _, results, _ in run(f"getreg_{index}"):
        assert results[0] == (start & mask) >> offset
    for words, results, _ in run(f"setreg_{index}"):
        assert results[1] == (start & ~mask) | (words[6] << offset & mask)
    for _, results, _ in run(f"setreg_imm_{index}"):
        assert results[1] == (start & ~mask) | (0x2A5 << offset & mask)


def test_status_register(run):
    for words, results, _ in run("getreg_status"):
        scc, vcc, exec_, _ = before(words)
        assert results[0] & 1 == scc
        assert results[0] >> 9 & 1 == int(exec_ == 0)
        assert results[0] >> 10 & 1 == int(vcc == 0)


@pytest.mark.parametrize("name", ["memtime", "memrealtime"])
def test_clocks_run_forward(run, name):
    for _, results, _ in run(name):
        first, second = results[0] | results[1] << 32, results[2] | results[3] << 32
        assert second > first


def test_relative_scalar_moves(run):
    for words, results, _ in run("index_movrels_b32"):
        assert results[0] == words[3]
    for words, results, _ in run("index_movrels_b64"):
        assert results[:2] == words[4:6]
    for words, results, _ in run("index_movreld_b32"):
        assert results[2] == words[1] and results[0] == 0
    for words, results, _ in run("index_movreld_b64"):
        assert results[4:6] == words[2:4] and results[0] == 0


def test_index_registers(run):
    for words, _, after in run("index_set_gpr_idx_idx"):
        assert after[3] == 0x12345600 | (words[6] & 0xFF)
    for _, _, after in run("index_set_gpr_idx_mode"):
        assert after[3] == 0x12349678
    for words, _, after in run("index_set_gpr_idx_on"):
        assert after[3] == 0x12346600 | (words[6] & 0xFF)


@pytest.mark.parametrize(("instruction", "stored"), [("s_nop 0", 1), ("s_endpgm", 0), ("s_endpgm_saved", 0)])
def test_end_of_program(machines, instruction, stored):
    text = kernel("ends", f"  s_mov_b32 s28, 1\n  {instruction}", 1, ["s28"])
    machine = machines("gfx942")
    module = machine.load(assembler.assemble(HEADER + text, "gfx942"))
    assert launch(machine, module, "ends", np.zeros((1, 1, 64), np.uint32), 1)[0, 0, 0] == stored


def test_trap_and_unsupported_messages_are_errors(machines):
    machine = machines("gfx942")
    for instruction, reason in (("s_trap 3", "s_trap 3"), ("s_sendmsg 4", "message 4 is not supported")):
        module = machine.load(assembler.assemble(HEADER + kernel("bad", f"  {instruction}", 1, ["v10"]), "gfx942"))
        with pytest.raises(RuntimeError, match=reason):
            launch(machine, module, "bad", np.zeros((1, 1, 64), np.uint32), 1)
