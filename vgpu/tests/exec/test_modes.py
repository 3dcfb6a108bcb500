"""States that change how instructions execute, and the ways a wave reaches memory other than global."""

from __future__ import annotations

import assembler
import numpy as np
import pytest
from machine import Machine
from programs import PROLOGUE, arguments, load, source

LANES = np.arange(64, dtype=np.uint32)


def run(machine, body, words=64, **keywords):
    out = machine.array(np.zeros(words, np.uint32))
    machine.launch(load(machine, PROLOGUE + body, **keywords), "k", arguments(out))
    return out.numpy()


def test_vskip_skips_vector_instructions_only(machine):
    got = run(machine, """
  v_mov_b32 v2, 1
  s_mov_b32 s8, 4
  s_setvskip s8, 2
  v_mov_b32 v2, 2
  s_mov_b32 s9, 7
  global_store_dword v1, v2, s[4:5]
  s_setvskip s8, 0
  v_add_u32 v2, s9, v2
  global_store_dword v1, v2, s[4:5]
""")  # fmt: skip
    np.testing.assert_array_equal(got, np.full(64, 8))


@pytest.mark.parametrize(("flags", "expected"), [("SRC0", 31), ("DST", 11), ("SRC0,DST", 31)])
def test_gpr_index_mode(machine, flags, expected):
    # v10 = 10, v12 = 30; an index of 2 moves v10 to v12 as source, v20 to v22 as destination.
    body = f"""
  v_mov_b32 v10, 10
  v_mov_b32 v12, 30
  v_mov_b32 v20, 0
  v_mov_b32 v22, 0
  s_mov_b32 s8, 2
  s_set_gpr_idx_on s8, gpr_idx({flags})
  v_add_u32_e64 v20, v10, 1
  s_set_gpr_idx_off
  v_add_u32 v2, v20, v22
  global_store_dword v1, v2, s[4:5]
"""
    np.testing.assert_array_equal(run(machine, body), np.full(64, expected))


@pytest.mark.parametrize(("mode", "kept"), [(0x0, False), (0x3, True)])
def test_denormal_mode_of_f32(machine, mode, kept):
    got = run(machine, f"""
  s_setreg_imm32_b32 hwreg(HW_REG_MODE, 4, 2), {mode}
  v_mov_b32 v2, 0x00000400
  v_add_f32 v2, v2, v2
  global_store_dword v1, v2, s[4:5]
""")  # fmt: skip
    np.testing.assert_array_equal(got, np.full(64, 0x800 if kept else 0))


@pytest.mark.parametrize(("mode", "expected"), [(0, 0x3F800000), (1, 0x3F800001), (2, 0x3F800000), (3, 0x3F800000)])
def test_rounding_mode_of_f32(machine, mode, expected):
    # 1 + 2^-25: to nearest, up, down, to zero.
    got = run(machine, f"""
  s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 2), {mode}
  v_mov_b32 v2, 0x33000000
  v_add_f32 v2, 1.0, v2
  global_store_dword v1, v2, s[4:5]
""")  # fmt: skip
    np.testing.assert_array_equal(got, np.full(64, expected))


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 20])
def test_matrix_instructions_ignore_the_mode_and_leave_it(machine, count):
    # Products of a denormal, 16 in all 2^-109, in mode "flush", however many follow one another; then a sum that flushes to zero.
    multiply = "  v_mfma_f32_16x16x16_bf16 v[8:11], v[4:5], v[6:7], 0\n" * count
    got = run(machine, f"""
  s_setreg_imm32_b32 hwreg(HW_REG_MODE, 4, 2), 0
  v_mov_b32 v2, 0x00000400
  v_mov_b32 v4, 0x00010001
  v_mov_b32 v5, v4
  v_mov_b32 v6, 0x49804980
  v_mov_b32 v7, v6
{multiply}
  v_add_f32 v2, v2, v2
  s_nop 15
  v_or_b32 v2, v2, v8
  global_store_dword v1, v2, s[4:5]
""")  # fmt: skip
    np.testing.assert_array_equal(got, np.full(64, (127 - 109) << 23))


def test_f32_mode_does_not_touch_f64(machine):
    # f32 flushes and rounds up; the f64 product is a denormal and must stay, rounded to nearest.
    got = run(machine, """
  s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 8), 0xc1
  v_mov_b32 v2, 3
  v_mov_b32 v3, 0
  v_mov_b32 v4, 0
  v_mov_b32 v5, 0x3fe00000
  v_mul_f64 v[6:7], v[2:3], v[4:5]
  global_store_dword v1, v6, s[4:5]
""")  # fmt: skip
    np.testing.assert_array_equal(got, np.full(64, 2))  # 1.5 to even


def test_flat_reaches_lds_and_scratch(machine):
    got = run(machine, """
  v_add_u32 v2, 100, v0
  ds_write_b32 v1, v2
  scratch_store_dword off, v0, off offset:8
  s_mov_b64 s[8:9], src_shared_base
  v_mov_b32 v5, s9
  v_mov_b32 v4, v1
  flat_load_dword v6, v[4:5]
  s_mov_b64 s[8:9], src_private_base
  v_mov_b32 v5, s9
  v_mov_b32 v4, 8
  flat_load_dword v7, v[4:5]
  s_waitcnt vmcnt(0) lgkmcnt(0)
  v_add_u32 v6, v6, v7
  global_store_dword v1, v6, s[4:5]
""", lds=256, scratch=16)  # fmt: skip
    np.testing.assert_array_equal(got, 100 + 2 * LANES)


def test_buffer_load_to_lds(machine):
    out = machine.array(LANES * 3)
    body = (
        PROLOGUE
        + """
  s_mov_b32 s8, s4
  s_and_b32 s9, s5, 0xffff
  s_mov_b32 s10, 256
  s_mov_b32 s11, 0x20000
  s_mov_b32 m0, 16
  buffer_load_dword v1, s[8:11], 0 offen lds
  s_waitcnt vmcnt(0)
  v_xor_b32 v2, 4, v1
  ds_read_b32 v3, v2 offset:16
  s_waitcnt lgkmcnt(0)
  global_store_dword v1, v3, s[4:5]
"""
    )
    machine.launch(load(machine, body, lds=512), "k", arguments(out))
    np.testing.assert_array_equal(out.numpy(), (LANES ^ 1) * 3)


def test_kernel_argument_preload(machine):
    # With preloading the code starts 256 bytes in, with the arguments in the SGPRs after the pointer.
    text = source("k", """
  s_trap 2
  .p2align 8
  v_lshlrev_b32 v1, 2, v0
  v_mov_b32 v2, s4
  v_add_u32 v2, s5, v2
  global_store_dword v1, v2, s[2:3]
""").replace("  .amdhsa_ieee_mode 1", "  .amdhsa_ieee_mode 1\n  .amdhsa_user_sgpr_kernarg_preload_length 4")  # fmt: skip
    out = machine.array(np.zeros(64, np.uint32))
    image = assembler.assemble(text, machine.arch)
    machine.launch(machine.load(image), "k", arguments(out, 40 | 2 << 32))
    np.testing.assert_array_equal(out.numpy(), np.full(64, 42))


def test_workgroup_and_item_ids(machine):
    text = source("k", """
  s_load_dwordx2 s[8:9], s[0:1], 0x0
  v_and_b32 v1, 0x3ff, v0
  v_bfe_u32 v2, v0, 10, 10
  v_bfe_u32 v3, v0, 20, 10
  v_lshl_add_u32 v4, v2, 2, v1
  v_lshl_add_u32 v4, v3, 3, v4
  s_mul_i32 s10, s4, 6
  s_mul_i32 s11, s3, 3
  s_add_u32 s10, s10, s11
  s_add_u32 s10, s10, s2
  s_lshl_b32 s11, s10, 4
  v_add_u32 v4, s11, v4
  v_lshlrev_b32 v5, 2, v4
  v_lshl_or_b32 v6, v2, 8, v1
  v_lshl_or_b32 v6, v3, 16, v6
  v_mov_b32 v7, s10
  v_lshl_or_b32 v6, v7, 24, v6
  s_waitcnt lgkmcnt(0)
  global_store_dword v5, v6, s[8:9]
""").replace(".amdhsa_system_vgpr_workitem_id 0", ".amdhsa_system_vgpr_workitem_id 2\n"
             "  .amdhsa_system_sgpr_workgroup_id_y 1\n  .amdhsa_system_sgpr_workgroup_id_z 1")  # fmt: skip
    out = machine.array(np.zeros(12 * 16, np.uint32))
    module = machine.load(assembler.assemble(text, machine.arch))
    machine.launch(module, "k", arguments(out), grid=(3, 2, 2), block=(4, 2, 2))
    group, item = np.divmod(np.arange(12 * 16), 16)
    expected = group << 24 | (item >> 3) << 16 | (item >> 2 & 1) << 8 | item & 3
    np.testing.assert_array_equal(out.numpy(), expected)


@pytest.mark.parametrize(("bits", "dwords"), [(16, 2), (8, 2), (6, 3), (4, 2)])
def test_transposing_lds_read(library, bits, dwords):
    """Each group of 16 lanes reads a matrix of as many rows as a lane has elements, by 16 columns; a lane gets one column."""
    machine = Machine("gfx950", library)
    rows = 32 * dwords // bits
    matrix = np.random.default_rng(bits).integers(0, 1 << bits, (4, rows, 16)).astype(object)

    def words(elements: np.ndarray) -> np.ndarray:
        """[lane][dword] of [lane][element]."""
        wide = [sum(int(x) << (bits * i) for i, x in enumerate(lane)) for lane in elements]
        return np.array([[x >> (32 * d) & 0xFFFFFFFF for d in range(dwords)] for x in wide], np.uint32)

    data, out = machine.array(words(matrix.reshape(64, rows))), machine.array(np.zeros((64, dwords), np.uint32))
    size, load_name = 32 * dwords, f"dwordx{dwords}"
    body = (
        PROLOGUE
        + f"""
  v_mul_u32_u24 v1, {4 * dwords}, v0
  global_load_{load_name} v[4:{3 + dwords}], v1, s[4:5]
  s_waitcnt vmcnt(0)
  ds_write_b{size} v1, v[4:{3 + dwords}]
  s_waitcnt lgkmcnt(0)
  ds_read_b{size}_tr_b{bits} v[8:{7 + dwords}], v1
  s_waitcnt lgkmcnt(0)
  global_store_{load_name} v1, v[8:{7 + dwords}], s[6:7]
"""
    )
    machine.launch(load(machine, body, lds=1024), "k", arguments(data, out))
    np.testing.assert_array_equal(out.numpy(), words(matrix.transpose(0, 2, 1).reshape(64, rows)))
