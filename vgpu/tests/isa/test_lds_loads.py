"""Loads that go straight to LDS land when the wave waits for them, not before: s_waitcnt vmcnt counts them in order.

AITER's attention kernels for gfx950 order the next tile of keys into LDS that the wave's neighbours may still be reading.
"""

from __future__ import annotations

import struct

import assembler
import numpy as np
import pytest
from kernels import HEADER, kernel

# Two loads to LDS, dwords 0..63 and 64..127, then a third that goes to a register; what LDS holds after each wait.
BODY = """
  v_mov_b32 v3, v0
  v_add_u32 v4, 0x100, v0
  v_mov_b32 v5, -1
  ds_write_b32 v3, v5
  ds_write_b32 v4, v5
  s_mov_b32 m0, 0
  {load} {first}
  s_mov_b32 m0, 0x100
  {load} {second}
  s_mov_b32 m0, 0
  global_load_dword v6, v0, s[16:17]
  ds_read_b32 v20, v3
  s_waitcnt vmcnt(2) lgkmcnt(0)
  ds_read_b32 v21, v3
  ds_read_b32 v22, v4
  s_waitcnt vmcnt(1) lgkmcnt(0)
  ds_read_b32 v23, v4
  s_waitcnt vmcnt(0) lgkmcnt(0)
"""
LOADS = {
    "buffer": ("buffer_load_dword", "v3, s[20:23], 0 offen lds", "v4, s[20:23], 0 offen lds"),
    "global": ("global_load_lds_dword", "v3, s[16:17]", "v4, s[16:17]"),
}
# V# of the third pointer: all of its 512 bytes, type "raw".
RESOURCE = "  s_mov_b32 s20, s16\n  s_and_b32 s21, s17, 0xffff\n  s_mov_b32 s22, 512\n  s_mov_b32 s23, 0x20000\n"


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("way", LOADS)
def test_arrival(machines, arch, way):
    load, first, second = LOADS[way]
    body = RESOURCE + BODY.format(load=load, first=first, second=second)
    text = HEADER + kernel("landing", body, 0, ["v20", "v21", "v22", "v23", "v6"], lds=512)
    machine = machines(arch)
    module = machine.load(assembler.assemble(text, arch))
    data = np.arange(128, dtype=np.uint32) + 1000
    with machine.array(data) as source, machine.array(np.zeros((5, 64), np.uint32)) as target:
        machine.launch(module, "landing", struct.pack("<QQQ", 0, target.pointer, source.pointer))
        before, one, two_early, two, register = target.numpy()
    old = np.full(64, 0xFFFFFFFF, np.uint32)
    np.testing.assert_array_equal(before, old)
    np.testing.assert_array_equal(one, data[:64])
    np.testing.assert_array_equal(two_early, old)
    np.testing.assert_array_equal(two, data[64:])
    np.testing.assert_array_equal(register, data[:64])
