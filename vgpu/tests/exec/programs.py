"""Small kernels as text. A kernel gets a pointer to its arguments in s[0:1] and its workgroup in s2."""

from __future__ import annotations

import struct

import assembler
from machine import Buffer, Machine


def source(name: str, body: str, lds: int = 0, scratch: int = 0) -> str:
    return f""".amdhsa_code_object_version 5
.text
.globl {name}
.p2align 8
.type {name},@function
{name}:
{body}
  s_endpgm
.section .rodata
.p2align 6
.amdhsa_kernel {name}
  .amdhsa_group_segment_fixed_size {lds}
  .amdhsa_private_segment_fixed_size {scratch}
  .amdhsa_user_sgpr_kernarg_segment_ptr 1
  .amdhsa_system_sgpr_workgroup_id_x 1
  .amdhsa_system_vgpr_workitem_id 0
  .amdhsa_next_free_vgpr 32
  .amdhsa_next_free_sgpr 32
  .amdhsa_accum_offset 32
  .amdhsa_kernarg_size 64
  .amdhsa_ieee_mode 1
.end_amdhsa_kernel
"""


def load(machine: Machine, body: str, lds: int = 0, scratch: int = 0) -> int:
    return machine.load(assembler.assemble(source("k", body, lds, scratch), machine.arch))


def arguments(*values: Buffer | int) -> bytes:
    packed = b"".join(struct.pack("<Q", v.pointer if isinstance(v, Buffer) else v) for v in values)
    return packed.ljust(64, b"\0")


# v1 = the work-item's byte offset into an array of dwords; s[4:5], s[6:7] = the first two arguments.
PROLOGUE = """
  s_load_dwordx4 s[4:7], s[0:1], 0x0
  s_waitcnt lgkmcnt(0)
  v_lshlrev_b32 v1, 2, v0
"""
