"""Planted bugs are reported with kernel, instruction, lane, address and allocation."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from programs import PROLOGUE, arguments, load

MEMORY, UNINITIALISED, RACES = 1, 2, 4


def test_store_one_element_past_the_end(machine):
    module = load(machine, PROLOGUE + "  global_store_dword v1, v0, s[4:5]")
    short = machine.array(np.zeros(63, np.uint32))
    with pytest.raises(RuntimeError) as error:
        machine.launch(module, "k", arguments(short))
    text = str(error.value)
    for part in ("kernel k", "store of 4 bytes", "by lane 63", "0 bytes past the end of", "+252 bytes",
                 "global_store_dword v1, v0, s[4:5]", "workgroup (0, 0, 0)", "wave 0"):  # fmt: skip
        assert part in text, text
    np.testing.assert_array_equal(short.numpy(), np.zeros(63, np.uint32))  # nothing was written


def test_load_before_the_start(machine):
    module = load(machine, PROLOGUE + "  global_load_dword v2, v1, s[4:5] offset:-4")
    array = machine.array(np.zeros(64, np.uint32))
    with pytest.raises(RuntimeError, match=r"load of 4 bytes .* by lane 0; 4 bytes before"):
        machine.launch(module, "k", arguments(array))


def test_access_across_the_end(machine):
    module = load(machine, PROLOGUE + "  global_load_dwordx2 v[2:3], v1, s[4:5]")
    array = machine.array(np.zeros(64, np.uint32))
    with pytest.raises(RuntimeError, match=r"by lane 63; it runs 4 bytes past the end of"):
        machine.launch(module, "k", arguments(array))


def test_use_after_free(machine):
    module = load(machine, PROLOGUE + "  global_load_dword v2, v1, s[4:5]")
    array = machine.array(np.zeros(64, np.uint32))
    machine.launch(module, "k", arguments(array))
    array.free()
    with pytest.raises(RuntimeError, match="use after free: load of 4 bytes"):
        machine.launch(module, "k", arguments(array))


def test_scalar_load_outside(machine):
    module = load(machine, PROLOGUE + "  s_load_dword s8, s[4:5], 0x100")
    array = machine.array(np.zeros(64, np.uint32))
    with pytest.raises(RuntimeError, match=r"scalar load of 4 bytes .* s_load_dword s8"):
        machine.launch(module, "k", arguments(array))


def test_store_to_code(machine):
    module = load(machine, "  s_getpc_b64 s[4:5]\n  v_lshlrev_b32 v1, 2, v0\n  global_store_dword v1, v0, s[4:5]")
    with pytest.raises(RuntimeError, match="write to read-only memory"):
        machine.launch(module, "k", arguments(0))


def test_inactive_lanes_may_point_anywhere(machine):
    body = PROLOGUE + "  s_mov_b64 exec, 0xff\n  global_store_dword v1, v0, s[4:5]"
    array = machine.array(np.zeros(8, np.uint32))
    machine.launch(load(machine, body), "k", arguments(array))
    np.testing.assert_array_equal(array.numpy(), np.arange(8, dtype=np.uint32))


def test_buffer_range_is_not_an_error(machine):
    # The resource covers 40 of 64 dwords: loads beyond return 0, stores beyond are dropped.
    body = (
        PROLOGUE
        + """
  s_mov_b32 s8, s4
  s_and_b32 s9, s5, 0xffff
  s_mov_b32 s10, 160
  s_mov_b32 s11, 0x20000
  buffer_load_dword v2, v1, s[8:11], 0 offen
  s_waitcnt vmcnt(0)
  v_add_u32 v2, 1, v2
  buffer_store_dword v2, v1, s[8:11], 0 offen
  global_store_dword v1, v2, s[6:7]
"""
    )
    values = np.arange(100, 140, dtype=np.uint32)
    source, out = machine.array(values), machine.array(np.zeros(64, np.uint32))
    machine.launch(load(machine, body), "k", arguments(source, out))
    np.testing.assert_array_equal(source.numpy(), values + 1)
    np.testing.assert_array_equal(out.numpy(), np.concatenate([values + 1, np.ones(24, np.uint32)]))


def test_lds_and_scratch_bounds(machine):
    lds = load(machine, "  v_lshlrev_b32 v1, 2, v0\n  ds_write_b32 v1, v0 offset:4", lds=256)
    with pytest.raises(RuntimeError, match=r"LDS access of 4 bytes at offset 256 by lane 63"):
        machine.launch(lds, "k", arguments(0))
    scratch = load(machine, "  scratch_store_dword off, v0, off offset:16", scratch=16)
    with pytest.raises(RuntimeError, match=r"scratch access of 4 bytes at offset 16 by lane 0"):
        machine.launch(scratch, "k", arguments(0))


def test_uninitialised_read(machine):
    machine.lib.vgpu_isa_track_initialised(machine.handle, 1)
    module = load(machine, PROLOGUE + "  global_load_dword v2, v1, s[4:5]\n  global_store_dword v1, v2, s[6:7]")
    source, out = machine.array(np.zeros(64, np.uint32)), machine.array(np.zeros(64, np.uint32))
    mark = machine.lib.vgpu_isa_mark
    mark(machine.handle, ctypes.c_void_p(source.pointer), ctypes.c_size_t(64 * 4), 1)
    machine.launch(module, "k", arguments(source, out), checks=MEMORY | UNINITIALISED)
    machine.launch(module, "k", arguments(out, source), checks=MEMORY | UNINITIALISED)  # the kernel's own stores count
    mark(machine.handle, ctypes.c_void_p(source.pointer + 40), ctypes.c_size_t(1), 0)
    with pytest.raises(RuntimeError, match=rf"read of memory nobody has written: .* 0x{source.pointer + 40:x} by lane 10"):
        machine.launch(module, "k", arguments(source, out), checks=MEMORY | UNINITIALISED)


def test_race_between_workgroups(machine):
    racing = load(machine, PROLOGUE + "  v_mov_b32 v2, s2\n  global_store_dword v1, v2, s[4:5]")
    array = machine.array(np.zeros(64, np.uint32))
    machine.launch(racing, "k", arguments(array), grid=(1, 1, 1), checks=MEMORY | RACES)
    with pytest.raises(RuntimeError, match="race: store and store by workgroup"):
        machine.launch(racing, "k", arguments(array), grid=(2, 1, 1), checks=MEMORY | RACES)
    atomic = load(machine, PROLOGUE + "  v_mov_b32 v2, 1\n  global_atomic_add v1, v2, s[4:5]")
    machine.launch(atomic, "k", arguments(array), grid=(8, 1, 1), threads=2, checks=MEMORY | RACES)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("  .long 0xffffffff", "not an instruction of this architecture"),
        ("  s_rfe_b64 s[0:1]", "instruction is not implemented.*s_rfe_b64"),
        ("  s_setreg_imm32_b32 hwreg(HW_REG_MODE, 12, 1), 1", "MODE value .* not supported"),
        ("  s_trap 2", "the kernel trapped"),
        ("  s_mov_b64 s[4:5], 0\n  s_setpc_b64 s[4:5]", "outside the module's code"),
        ("  v_mov_b32 v1, 2\n  v_mov_b32 v2, 0\n  global_atomic_add v1, v2, s[0:1]", "atomic"),
    ],
)
def test_never_guesses(machine, body, message):
    with pytest.raises(RuntimeError, match=message) as error:
        machine.launch(load(machine, body), "k", arguments(0))
    assert "workgroup (0, 0, 0), wave 0" in str(error.value)


def test_watchdog(machine):
    with pytest.raises(RuntimeError, match="watchdog"):
        machine.launch(load(machine, "loop:\n  s_branch loop"), "k", arguments(0), limit=100_000)


def test_launch_requests_are_checked(machine):
    module = load(machine, "  s_nop 0", lds=1024)
    for keywords, message in [
        ({"block": (1025, 1, 1)}, "more than 1024 work-items"),
        ({"grid": (0, 1, 1)}, "zero dimension"),
        ({"lds": 64 * 1024}, "exceeds 65536"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            machine.launch(module, "k", arguments(0), **keywords)
    with pytest.raises(RuntimeError, match="arguments"):
        machine.launch(module, "k", b"")


@pytest.mark.parametrize("address", [0, 8, 2**47 + 4096, 2**64 - 8])
def test_wild_addresses(machine, address):
    body = PROLOGUE + "  v_mov_b32 v2, s4\n  v_mov_b32 v3, s5\n  global_load_dwordx4 v[4:7], v[2:3], off"
    with pytest.raises(RuntimeError, match="access outside every allocation: load of 16 bytes"):
        machine.launch(load(machine, body), "k", arguments(address))
