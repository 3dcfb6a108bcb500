"""--check=hazard: every kind of hazard is reported, and not when it is mended; what it reports; what is no hazard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import assembler
import numpy as np
import pytest
from machine import CHECK_HAZARD, COLLECT_HAZARDS, Machine
from programs import arguments, source


class Case(NamedTuple):
    report: str  # a regular expression
    arch: str
    lines: list[str]  # of the kernel; those that mend it begin with "+"

    def body(self, fixed: bool) -> str:
        return "\n".join(line.removeprefix("+") for line in self.lines if fixed or not line.startswith("+"))


def read_cases(path: Path) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for line in path.read_text().splitlines():
        if line.startswith("  "):
            list(found.values())[-1].lines.append(line.strip())
        elif line and not line.startswith("#"):
            name, report = line.split(": ", 1)
            name, _, arch = name.partition(" @")
            assert name not in found
            found[name] = Case(report, arch or "gfx942", [])
    return found


CASES = {
    f"{path.stem}-{name}": case
    for path in sorted((Path(__file__).parent / "hazards").glob("*.txt"))
    for name, case in read_cases(path).items()
}
LDS_BYTES = 4096
# v1 is a work-item's byte offset in an array and in LDS, s12 the wave's part of LDS, s[12:15] also a buffer of no records.
PROLOGUE = """
  s_load_dwordx4 s[4:7], s[0:1], 0x0
  v_lshlrev_b32 v1, 2, v0
  v_xor_b32 v9, 0x100, v1
  v_mov_b32 v3, 7
  v_mov_b32 v10, 0
  v_mov_b32 v11, 0
  s_nop 0
  v_readfirstlane_b32 s12, v1
  s_mov_b32 s13, 0
  s_mov_b32 s14, 0
  s_mov_b32 s15, 0x20000
  s_nop 7
  s_waitcnt lgkmcnt(0)
"""


def kernel(name: str, case: Case, fixed: bool) -> str:
    return source(name, PROLOGUE + case.body(fixed) + "\n s_waitcnt vmcnt(0) lgkmcnt(0)\n s_nop 15", lds=LDS_BYTES)


@pytest.fixture(scope="module")
def modules(library) -> dict[str, tuple[Machine, int]]:
    """All kernels of an architecture as one code object, assembled once."""
    found = {}
    for arch in ("gfx942", "gfx950"):
        texts = [kernel(f"{'good' if fixed else 'bad'}_{key.replace('-', '_')}", case, fixed)
                 for key, case in CASES.items() if case.arch == arch for fixed in (False, True)]  # fmt: skip
        header, *rest = texts[0].split("\n", 1)
        text = "\n".join([header, *rest, *(t.split("\n", 1)[1] for t in texts[1:])])
        machine = Machine(arch, library)
        found[arch] = machine, machine.load(assembler.assemble(text, arch))
    return found


def launch(modules, key: str, prefix: str, checks: int) -> Machine:
    machine, module = modules[CASES[key].arch]
    with machine.array(np.zeros(1024, np.uint32)) as array:
        machine.launch(module, f"{prefix}_{key.replace('-', '_')}", arguments(array, array), block=(128, 1, 1), checks=1 | checks)
    return machine


@pytest.mark.parametrize("key", CASES)
def test_is_found_and_only_where_it_is(modules, key):
    found = launch(modules, key, "bad", COLLECT_HAZARDS).hazards()
    assert any(re.search(CASES[key].report, h) for h in found), found
    for h in found:
        assert re.search(r"^kernel bad_\w+: hazard: .*; at pc 0x\w+ \(kernel entry \+\d+\): .*; workgroup \(0, 0, 0\), wave \d$", h)
    with pytest.raises(RuntimeError) as error:
        launch(modules, key, "bad", CHECK_HAZARD)
    assert str(error.value) in found
    launch(modules, key, "good", CHECK_HAZARD)


def test_collecting_goes_on_and_names_each_pair_once(modules):
    machine = launch(modules, "counter-vmcnt", "bad", COLLECT_HAZARDS)
    assert len(machine.hazards()) == 1  # both waves did it
    machine = launch(modules, "counter-vmcnt", "good", COLLECT_HAZARDS)
    assert machine.hazards() == []


def test_nothing_is_checked_unless_asked(modules):
    for key in CASES:
        launch(modules, key, "bad", 0)


REVERSE = """
  s_load_dwordx4 s[4:7], s[0:1], 0x0
  v_lshlrev_b32 v1, 2, v0
  v_xor_b32 v9, 0x1fc, v1
  s_waitcnt lgkmcnt(0)
  global_load_dword v2, v1, s[4:5]
  s_waitcnt vmcnt(0)
  ds_write_b32 v1, v2
  s_waitcnt lgkmcnt(0)
  s_barrier
  ds_read_b32 v3, v9
  s_waitcnt lgkmcnt(0)
  global_store_dword v1, v3, s[6:7]
"""
S_NOP, WAITS = 0xBF800000, (0xBF8C, 0xBF8A)


def test_every_wait_that_is_deleted_is_missed(machine):
    """The array is reversed through LDS by two waves; each wait and the barrier are needed."""
    module = machine.load(assembler.assemble(source("k", REVERSE, lds=512), machine.arch))
    values = np.arange(128, dtype=np.uint32)
    array, out = machine.array(values), machine.array(np.zeros(128, np.uint32))

    def run() -> list[str]:
        machine.launch(module, "k", arguments(array, out), block=(128, 1, 1), checks=1 | COLLECT_HAZARDS)
        return machine.hazards()

    assert run() == []
    np.testing.assert_array_equal(out.numpy(), values[::-1])
    code = machine.code(module)
    waits = [int(i) for i in machine.executed() if code[i] >> 16 in WAITS]
    assert len(waits) == 5
    for index in waits:
        machine.poke(module, index, S_NOP)
        assert len(run()) >= 1, index
        machine.poke(module, index, int(code[index]))
    assert run() == []
