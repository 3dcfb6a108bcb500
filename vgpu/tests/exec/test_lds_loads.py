"""Loads that go straight to LDS: what arrives, where, and when."""

from __future__ import annotations

import numpy as np
import pytest
from machine import Machine
from programs import PROLOGUE, arguments, load

LANES = np.arange(64)
SIGNED = {"sbyte": np.int8, "sshort": np.int16}
UNSIGNED = {"ubyte": np.uint8, "ushort": np.uint16}
WIDE = {"dword": 1, "dwordx3": 3, "dwordx4": 4}
M0, OFFSET = 32, 16


def expected(kind: str, memory: np.ndarray, at: np.ndarray) -> np.ndarray:
    """[lane][dword] of what each lane reads at byte `at`; narrow values are extended to a dword."""
    if kind in WIDE:
        return memory.view(np.uint32)[at[:, None] // 4 + np.arange(WIDE[kind])]
    dtype = np.dtype((SIGNED | UNSIGNED)[kind])
    values = np.frombuffer(b"".join(memory[a : a + dtype.itemsize].tobytes() for a in at), dtype)
    return values.astype(np.int64).astype(np.uint32)[:, None]


@pytest.mark.parametrize(
    ("arch", "kind"), [(a, k) for a in ("gfx942", "gfx950") for k in SIGNED | UNSIGNED | WIDE if a == "gfx950" or "x" not in k]
)
def test_global_load_lds(library, arch, kind):
    machine = Machine(arch, library)
    dwords = WIDE.get(kind, 1)
    size = (SIGNED | UNSIGNED)[kind]().itemsize if kind not in WIDE else 4 * dwords
    rng = np.random.default_rng(3)
    memory = rng.integers(0, 256, 64 * size + OFFSET, dtype=np.uint8)
    memory = np.resize(memory, -(-len(memory) // 4) * 4)
    order = rng.permutation(64)
    # The immediate moves both sides: the global address and the place in LDS.
    read = "\n".join(
        f"  v_add_u32 v4, {M0 + OFFSET + 4 * d}, v3\n  ds_read_b32 v{5 + d}, v4\n  s_waitcnt lgkmcnt(0)\n"
        f"  global_store_dword v1, v{5 + d}, s[8:9] offset:{256 * d}"
        for d in range(dwords)
    )
    body = (
        PROLOGUE
        + f"""
  s_load_dwordx2 s[8:9], s[0:1], 0x10
  global_load_dword v2, v1, s[6:7]
  v_mul_u32_u24 v3, {4 * dwords}, v0
  s_mov_b32 m0, {M0}
  s_waitcnt vmcnt(0) lgkmcnt(0)
  global_load_lds_{kind} v2, s[4:5] offset:{OFFSET}
  s_waitcnt vmcnt(0)
{read}
"""
    )
    at = order.astype(np.uint32) * size
    source, places, out = machine.array(memory), machine.array(at), machine.array(np.zeros((dwords, 64), np.uint32))
    machine.launch(load(machine, body, lds=2048), "k", arguments(source, places, out))
    np.testing.assert_array_equal(out.numpy().T, expected(kind, memory, at + OFFSET))


def read_after(machine: Machine, between: str) -> np.ndarray:
    """What LDS, which held sevens, holds after a load of `LANES` + 100 and what stands between it and the read."""
    body = (
        PROLOGUE
        + f"""
  v_mov_b32 v2, 7
  ds_write_b32 v1, v2
  s_mov_b32 m0, 0
  s_waitcnt lgkmcnt(0)
  global_load_lds_dword v1, s[4:5]
{between}
  ds_read_b32 v3, v1
  s_waitcnt lgkmcnt(0)
  global_store_dword v1, v3, s[6:7]
"""
    )
    source, out = machine.array(LANES.astype(np.uint32) + 100), machine.array(np.zeros(64, np.uint32))
    machine.launch(load(machine, body, lds=256), "k", arguments(source, out))
    return out.numpy()


@pytest.mark.parametrize(("count", "landed"), [(0, True), (1, False)])
def test_data_land_when_the_wave_waits_for_them(machine, count, landed):
    """vmcnt(1) leaves the latest load outstanding: LDS still holds what was there."""
    got = read_after(machine, f"  s_waitcnt vmcnt({count})")
    np.testing.assert_array_equal(got, LANES + 100 if landed else np.full(64, 7))


@pytest.mark.parametrize(("later", "landed"), [(62, False), (63, True)])
def test_no_more_than_63_are_under_way(machine, later, landed):
    """The counter holds no more: the next instruction is issued when the first one has arrived, waited for or not."""
    got = read_after(machine, "\n".join("  global_load_dword v4, v1, s[4:5]" for _ in range(later)))
    np.testing.assert_array_equal(got, LANES + 100 if landed else np.full(64, 7))
