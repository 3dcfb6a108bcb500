"""Workgroups and waves make progress whatever they wait for; counts do not depend on how they were scheduled."""

from __future__ import annotations

import numpy as np
import pytest
from programs import PROLOGUE, arguments, load

# Adds one to a counter, then spins until it reaches s6: every workgroup waits for every other.
GRID_BARRIER = (
    PROLOGUE
    + """
  s_mov_b64 s[10:11], exec
  s_mov_b64 exec, 1
  v_mov_b32 v2, 0
  v_mov_b32 v3, 1
  global_atomic_add v2, v3, s[4:5]
spin:
  global_load_dword v4, v2, s[4:5] sc1
  s_waitcnt vmcnt(0)
  v_readfirstlane_b32 s8, v4
  s_cmp_lt_u32 s8, s6
  s_cbranch_scc1 spin
  s_mov_b64 exec, s[10:11]
"""
)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 37])
def test_workgroups_that_wait_for_later_ones(machine, groups, threads):
    counter = machine.array(np.zeros(1, np.uint32))
    module = load(machine, GRID_BARRIER)
    machine.launch(module, "k", arguments(counter, groups), grid=(groups, 1, 1), threads=threads, limit=200_000_000)
    assert counter.numpy()[0] == groups


def test_wave_that_waits_for_a_later_wave(machine):
    # Wave 0 spins on LDS until wave 3 writes it.
    body = (
        PROLOGUE
        + """
  v_mov_b32 v2, 0
  v_mov_b32 v3, 7
  v_readfirstlane_b32 s8, v0
  s_cmp_eq_u32 s8, 192
  s_cbranch_scc1 writer
  s_cmp_eq_u32 s8, 0
  s_cbranch_scc0 done
spin:
  ds_read_b32 v4, v2
  s_waitcnt lgkmcnt(0)
  v_readfirstlane_b32 s9, v4
  s_cmp_eq_u32 s9, 7
  s_cbranch_scc0 spin
  global_store_dword v1, v4, s[4:5]
  s_branch done
writer:
  ds_write_b32 v2, v3
done:
"""
    )
    out = machine.array(np.zeros(64, np.uint32))
    machine.launch(load(machine, body, lds=256), "k", arguments(out), block=(256, 1, 1), limit=10_000_000)
    np.testing.assert_array_equal(out.numpy(), np.full(64, 7, np.uint32))


def test_barrier_orders_lds(machine):
    # Each wave writes its part, and after the barrier reads the part of the next one.
    body = (
        PROLOGUE
        + """
  v_add_u32 v2, 1, v0
  ds_write_b32 v1, v2
  s_waitcnt lgkmcnt(0)
  s_barrier
  v_add_u32 v3, 64, v0
  v_and_b32 v3, 0xff, v3
  v_lshlrev_b32 v3, 2, v3
  ds_read_b32 v4, v3
  s_waitcnt lgkmcnt(0)
  global_store_dword v1, v4, s[4:5]
"""
    )
    out = machine.array(np.zeros(256, np.uint32))
    machine.launch(load(machine, body, lds=1024), "k", arguments(out), block=(256, 1, 1))
    np.testing.assert_array_equal(out.numpy(), (np.arange(256) + 64) % 256 + 1)


def test_partial_last_wave(machine):
    out = machine.array(np.zeros(70, np.uint32))
    body = PROLOGUE + "  v_add_u32 v2, 5, v0\n  global_store_dword v1, v2, s[4:5]"
    counts = machine.launch(load(machine, body), "k", arguments(out), block=(70, 1, 1))
    np.testing.assert_array_equal(out.numpy(), np.arange(70) + 5)
    assert counts[1] == 2  # waves


def test_counts_are_exact_and_deterministic(machine):
    body = (
        PROLOGUE
        + """
  s_mov_b32 s8, 0
loop:
  global_load_dword v2, v1, s[4:5]
  v_add_u32 v2, v2, v0
  s_add_u32 s8, s8, 1
  s_cmp_lt_u32 s8, 10
  s_cbranch_scc1 loop
"""
    )
    array = machine.array(np.zeros(64, np.uint32))
    module = load(machine, body)
    runs = [machine.launch(module, "k", arguments(array), grid=(9, 1, 1), threads=t) for t in (1, 2, 2)]
    assert runs[0] == runs[1] == runs[2]
    counts = runs[0]
    groups, waves, total, salu, smem, valu = counts[:6]
    assert (groups, waves, smem, valu) == (9, 9, 9, 9 * 11)
    assert salu == 9 * 21  # s_mov and ten rounds of add and compare
    assert total == 9 * (1 + 1 + 1 + 1 + 50 + 1)  # load, wait, shift, mov, loop, end
    assert counts[15] == 9 * 10 * 64 * 4  # bytes loaded
    assert counts[21] == 9 * 9  # branches taken
