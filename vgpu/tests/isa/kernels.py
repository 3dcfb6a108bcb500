"""Text of test kernels: one instruction between loads of its inputs and stores of its results.

Every lane of every workgroup reads its own `inputs` dwords from in[workgroup][dword][lane], runs the body with EXEC as
asked, and writes `outputs` dwords to out[workgroup][dword][lane]. Vector inputs arrive in v10, v11, ...; results
leave from the registers named. s[16:17] holds a third pointer, for memory tests; s2 is the workgroup, v2 the lane.
"""

from __future__ import annotations

from typing import NamedTuple

HEADER = """.amdhsa_code_object_version 5
.text
"""


class Mode(NamedTuple):
    """Kernel descriptor fields that set the MODE register."""

    denorm_32: int = 3  # 0 flush both, 3 keep both
    denorm_16_64: int = 3
    round_32: int = 0
    ieee: bool = True
    dx10_clamp: bool = True
    fp16_overflow: bool = False


DEFAULT_MODE = Mode()


def kernel(name: str, body: str, inputs: int, outputs: list[str], mode: Mode = DEFAULT_MODE, lds: int = 0, scratch: int = 0) -> str:
    """`outputs` are registers: v24 is stored as is, s10 is copied to a lane first."""
    loads = "\n".join(f"  global_load_dword v{10 + i}, v0, s[4:5] offset:{256 * i - 4096}" for i in range(inputs))
    stores = []
    for i, register in enumerate(outputs):
        source = register
        if not register.startswith(("v", "a")) or register == "vcc_lo" or register == "vcc_hi":
            stores.append(f"  v_mov_b32 v1, {register}")
            source = "v1"
        stores.append(f"  global_store_dword v0, {source}, s[6:7] offset:{256 * i - 4096}")
    return f"""
.globl {name}
.p2align 8
.type {name},@function
{name}:
  s_load_dwordx4 s[4:7], s[0:1], 0x0
  s_load_dwordx2 s[16:17], s[0:1], 0x10
  s_mul_i32 s8, s2, {inputs * 256}
  s_mul_i32 s9, s2, {len(outputs) * 256}
  s_add_u32 s8, s8, 0x1000
  s_add_u32 s9, s9, 0x1000
  s_waitcnt lgkmcnt(0)
  s_add_u32 s4, s4, s8
  s_addc_u32 s5, s5, 0
  s_add_u32 s6, s6, s9
  s_addc_u32 s7, s7, 0
  v_and_b32 v0, 0x3ff, v0
  v_mov_b32 v2, v0
  v_lshlrev_b32 v0, 2, v0
{loads}
  s_waitcnt vmcnt(0)
{body}
  s_nop 7
  s_mov_b64 exec, -1
{chr(10).join(stores)}
  s_endpgm
.p2align 6
.amdhsa_kernel {name}
  .amdhsa_user_sgpr_kernarg_segment_ptr 1
  .amdhsa_kernarg_size 24
  .amdhsa_group_segment_fixed_size {lds}
  .amdhsa_private_segment_fixed_size {scratch}
  .amdhsa_enable_private_segment {int(scratch > 0)}
  .amdhsa_next_free_vgpr 128
  .amdhsa_accum_offset 64
  .amdhsa_next_free_sgpr 48
  .amdhsa_float_denorm_mode_32 {mode.denorm_32}
  .amdhsa_float_denorm_mode_16_64 {mode.denorm_16_64}
  .amdhsa_float_round_mode_32 {mode.round_32}
  .amdhsa_ieee_mode {int(mode.ieee)}
  .amdhsa_dx10_clamp {int(mode.dx10_clamp)}
  .amdhsa_fp16_overflow {int(mode.fp16_overflow)}
.end_amdhsa_kernel
"""
