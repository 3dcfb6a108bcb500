"""Recorded launches (benchmarks/launches.py): run again, they find their memory wherever it is now."""

from __future__ import annotations

import sys
from pathlib import Path

import assembler
import numpy as np
from programs import source

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from launches import Launch, Stage

# Adds 1 to the 64 numbers that a pointer in memory leads to.
THROUGH_A_TABLE = """
  s_load_dwordx2 s[4:5], s[0:1], 0x0
  v_lshlrev_b32 v1, 2, v0
  s_waitcnt lgkmcnt(0)
  s_load_dwordx2 s[6:7], s[4:5], 0x8
  s_waitcnt lgkmcnt(0)
  global_load_dword v2, v1, s[6:7]
  s_waitcnt vmcnt(0)
  v_add_u32 v2, 1, v2
  global_store_dword v1, v2, s[6:7]
  s_waitcnt vmcnt(0)
"""


def test_addresses_in_memory_lead_to_the_memory_of_the_new_run(machine, tmp_path):
    table, numbers = 0x7F00_0000_1000, 0x7F00_0000_3000
    values = np.arange(96, dtype=np.uint32)
    memory = {table: np.array([5, numbers + 128, 7], np.uint64).tobytes() + b"abc", numbers: values.tobytes()}
    image = assembler.assemble(source("k", THROUGH_A_TABLE), machine.arch)
    kernarg = np.array([table] * 8, np.uint64).tobytes()
    Launch(machine.arch, "k", image, (1, 1, 1), (64, 1, 1), 0, kernarg, memory).save(tmp_path)
    (path,) = tmp_path.glob("*.launch")
    stage = Stage(Launch.load(path), machine)
    digests = [stage.run(1, 1000)[1] for _ in range(2)]
    changed = np.concatenate([values[:32], values[32:] + 1])
    np.testing.assert_array_equal(stage.buffers[1].numpy().view(np.uint32), changed)
    assert stage.buffers[0].numpy().tobytes()[24:] == b"abc"
    assert digests[0] == digests[1]  # every run begins with the recorded memory
    stage.close()
