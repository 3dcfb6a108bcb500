"""Kernels for the tests of the HIP look-alike, in assembly: small enough to see every access."""

from __future__ import annotations

_HEAD = """
.amdgcn_target "amdgcn-amd-amdhsa--{arch}"
.amdhsa_code_object_version 5
.text
"""

# One work-item per element; item i of n. After the prologue: v1 = i, v2 = 4 i, exec = items below n.
_PROLOGUE = """
.globl {name}
.p2align 8
.type {name},@function
{name}:
  s_load_dwordx4 s[4:7], s[0:1], 0x0
  s_load_dwordx2 s[8:9], s[0:1], 0x10
  s_lshl_b32 s10, s2, 6
  v_and_b32 v0, 0x3ff, v0
  v_add_u32 v1, s10, v0
  v_lshlrev_b32 v2, 2, v1
  s_waitcnt lgkmcnt(0)
  v_cmp_gt_u32 vcc, s8, v1
  s_and_saveexec_b64 s[12:13], vcc
"""

_EPILOGUE = """
  s_endpgm
.p2align 6
.amdhsa_kernel {name}
  .amdhsa_user_sgpr_kernarg_segment_ptr 1
  .amdhsa_kernarg_size 24
  .amdhsa_next_free_vgpr 8
  .amdhsa_accum_offset 8
  .amdhsa_next_free_sgpr 16
.end_amdhsa_kernel
"""

# (out, source, n, value): s[4:5], s[6:7], s8, s9
BODIES = {
    # out[i] = value
    "fill": """
  v_mov_b32 v3, s9
  global_store_dword v2, v3, s[4:5]
""",
    # out[i] = source[i] + value
    "add": """
  global_load_dword v3, v2, s[6:7]
  s_waitcnt vmcnt(0)
  v_add_u32 v3, s9, v3
  global_store_dword v2, v3, s[4:5]
""",
    # The same, without waiting for the source
    "hasty_add": """
  global_load_dword v3, v2, s[6:7]
  v_add_u32 v3, s9, v3
  global_store_dword v2, v3, s[4:5]
""",
    # A delay of `value` turns, then out[i] = source[i] + 1
    "slow_add": """
  s_mov_b32 s14, 0
turn_{name}:
  s_add_u32 s14, s14, 1
  s_cmp_lt_u32 s14, s9
  s_cbranch_scc1 turn_{name}
  global_load_dword v3, v2, s[6:7]
  s_waitcnt vmcnt(0)
  v_add_u32 v3, 1, v3
  global_store_dword v2, v3, s[4:5]
""",
}

_METADATA = """
.amdgpu_metadata
---
amdhsa.version: [1, 2]
amdhsa.kernels:
{kernels}
...
.end_amdgpu_metadata
"""

_KERNEL = """  - .name: {name}
    .symbol: {name}.kd
    .kernarg_segment_size: 24
    .kernarg_segment_align: 8
    .group_segment_fixed_size: 0
    .private_segment_fixed_size: 0
    .wavefront_size: 64
    .sgpr_count: 16
    .vgpr_count: 8
    .max_flat_workgroup_size: 1024
    .args:
      - {{.name: out, .size: 8, .offset: 0, .value_kind: global_buffer, .address_space: global}}
      - {{.name: source, .size: 8, .offset: 8, .value_kind: global_buffer, .address_space: global}}
      - {{.name: n, .size: 4, .offset: 16, .value_kind: by_value}}
      - {{.name: value, .size: 4, .offset: 20, .value_kind: by_value}}
"""


def source(arch: str) -> str:
    parts = [_HEAD.format(arch=arch)]
    for name, body in BODIES.items():
        parts += [_PROLOGUE.format(name=name), body.format(name=name), _EPILOGUE.format(name=name)]
    parts.append(_METADATA.format(kernels="".join(_KERNEL.format(name=name) for name in BODIES)))
    return "\n".join(parts)
