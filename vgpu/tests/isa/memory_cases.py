"""Loads, stores and atomics of every memory encoding as kernels over one 64-byte slot per lane."""

from __future__ import annotations

from typing import NamedTuple

from kernels import kernel
from opcodes import Opcode
from valu_cases import registers

SLOT = 64  # bytes per lane
OFFSET = 8  # the instruction's immediate
OFFSETS = (1, 3)  # of the two-address LDS forms, in elements
EXEC = 0xF7FF_FFFF_FFFF_FFFE
LOCAL = ("DS", "SCRATCH")
SOFFSET = 4  # buffer instructions


class MemoryCase(NamedTuple):
    name: str
    op: Opcode
    text: str
    outputs: int


def build(op: Opcode) -> MemoryCase:
    """Inputs: v10 byte offset into the slot, v12.. data, v16.. second data, v20.. old result, v24..v39 the slot."""
    address = {"DS": "v11", "SCRATCH": "v11", "GLOBAL": "v[8:9]", "FLAT": "v[8:9]", "MUBUF": "v11"}[op.encoding]
    returning = "atomic" in op.base
    operands = []
    if returning and op.encoding in ("GLOBAL", "FLAT"):
        width = op.width("0") // (2 if "cmpswap" in op.base else 1)
        operands.append(registers(20, width))
    load = "load" in op.base or (returning and op.encoding == "MUBUF")
    for role, width in sorted(op.operands, key=lambda o: op.encoding == "SCRATCH" and o[0] == "0"):
        if role == "d":
            operands.append(registers(20, width))
        elif role == "a":
            operands.append(address)
        elif role == "0":
            operands.append(registers(20 if load and op.encoding == "MUBUF" else 12, width))
        elif role == "1":
            operands.append(registers(16, width))
    suffix = f" offset:{OFFSET}"
    if op.encoding == "DS" and any(t in op.base for t in ("read2", "write2", "wrxchg2")):
        suffix = f" offset0:{OFFSETS[0]} offset1:{OFFSETS[1]}" if "st64" not in op.base else " offset0:0 offset1:0"
    if op.encoding in ("GLOBAL", "SCRATCH"):
        operands.append("off")
    if op.encoding == "MUBUF":
        operands += ["s[20:23]", "s24"]
        suffix = " offen" + suffix
    if returning and op.encoding != "DS":
        suffix += " sc0"
    copy = ""
    if returning and op.encoding == "MUBUF":  # the data register receives the old value
        copy = "\n".join(f"  v_mov_b32 v{20 + i}, v{12 + i}" for i in range(op.width("0")))
    setup, readback, outputs = local(op) if op.encoding in LOCAL else shared()
    body = f"""
{setup}
{copy}
  s_mov_b32 exec_lo, {EXEC & 0xFFFFFFFF:#x}
  s_mov_b32 exec_hi, {EXEC >> 32:#x}
  {op.mnemonic} {", ".join(operands)}{suffix}
  s_waitcnt vmcnt(0) lgkmcnt(0)
  s_mov_b64 exec, -1
{readback}
"""
    results = [f"v{20 + i}" for i in range(4)] + outputs
    text = kernel(op.mnemonic, body, 30, results, lds=64 * SLOT, scratch=SLOT if op.encoding == "SCRATCH" else 0)
    return MemoryCase(op.mnemonic, op, text, len(results))


def local(op: Opcode) -> tuple[str, str, list[str]]:
    """LDS or scratch: the slot is written from v24.. before and read back into v40.. after."""
    if op.encoding == "DS":
        setup = ["  v_lshlrev_b32 v3, 6, v2", "  v_add_u32 v11, v10, v3"]
        setup += [f"  ds_write_b32 v3, v{24 + i} offset:{4 * i}" for i in range(16)]
        after = [f"  ds_read_b32 v{40 + i}, v3 offset:{4 * i}" for i in range(16)]
    else:
        setup = ["  v_mov_b32 v3, 0", "  v_mov_b32 v11, v10"]
        setup += [f"  scratch_store_dword v3, v{24 + i}, off offset:{4 * i}" for i in range(16)]
        after = [f"  scratch_load_dword v{40 + i}, v3, off offset:{4 * i}" for i in range(16)]
    wait = "  s_waitcnt vmcnt(0) lgkmcnt(0)"
    return "\n".join([*setup, wait]), "\n".join([*after, wait]), [f"v{40 + i}" for i in range(16)]


def shared() -> tuple[str, str, list[str]]:
    """Global memory: the slot lies at s[16:17] + 64*(64*workgroup + lane); the host reads it afterwards."""
    setup = f"""
  s_lshl_b32 s25, s2, 12
  v_lshl_add_u32 v11, v2, 6, s25
  v_add_u32 v11, v11, v10
  v_mov_b32 v9, s17
  v_add_co_u32 v8, vcc, s16, v11
  v_addc_co_u32 v9, vcc, 0, v9, vcc
  s_mov_b32 s20, s16
  s_mov_b32 s21, s17
  s_mov_b32 s22, 0x7fffffff
  s_mov_b32 s23, 0x27000
  s_mov_b32 s24, {SOFFSET}
"""
    return setup, "", []
