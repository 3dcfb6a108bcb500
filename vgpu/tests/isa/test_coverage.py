"""No opcode may be executable without vectors: each is in a table that a test walks, or in a kernel that a test checks."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import opcodes
import pytest
import test_control
import test_lanes
import test_matrix
import test_memory
import test_salu
import test_scalef32
import test_smem
import test_special
import test_valu

sys.path.append(str(Path(__file__).parents[1] / "sem"))
from matrix_names import ALL

# Instructions that the tests of tests/exec and tests/sem are about, by module.
ELSEWHERE = {
    "exec/test_modes": {
        "s_setvskip", "ds_read_b64_tr_b16", "ds_read_b64_tr_b8", "ds_read_b64_tr_b4", "ds_read_b96_tr_b6",
    },
    "exec/test_lds_loads": {
        *(f"global_load_lds_{t}" for t in ("dword", "dwordx3", "dwordx4", "ubyte", "sbyte", "ushort", "sshort"))
    },
    "test_control": {"s_trap", "s_endpgm", "s_endpgm_saved"},
    "sem": {"v_trig_preop_f64"},
}  # fmt: skip
# Prefixes of the instructions whose arithmetic sem/test_mfma checks by the table of its own.
MATRIX = ("v_mfma_", "v_smfmac_")


def walked(arch: str) -> set[str]:
    """Opcodes with vectors from AMD's pseudo-code."""
    found = {op.base for a in {arch, "gfx942"} for op in test_valu.covered(a)}
    found |= {op.base for module in (test_salu, test_smem) for op in module.covered()}
    found |= {op.base for a in {arch, "gfx942"} for op in test_memory.covered(a)}
    return found | {op.base for op in test_matrix.dense(arch)}


def mentioned() -> set[str]:
    """Mnemonics in the kernels of the tests written by hand."""
    texts = [*test_special.BODIES.values(), *test_lanes.gfx942_kernels().values(), *test_lanes.gfx950_bodies().values()]
    texts += [*test_control.bodies().values(), *test_scalef32.bodies().values(), *test_special.gfx950_bodies().values()]
    names = re.findall(r"^\s*([sv]_\w+|ds_\w+|buffer_\w+)", "\n".join(texts), re.MULTILINE)
    return {re.sub(r"_(e32|e64|sdwa|dpp)$", "", n) for n in names}


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_every_executable_opcode_has_vectors(machines, arch):
    executable = {n.removesuffix("_e32").removesuffix("_e64") for _, _, n, runs in machines(arch).opcodes() if runs}
    assert {op.base for op in opcodes.rows(arch)} >= executable
    tested = walked(arch) | mentioned() | set().union(*ELSEWHERE.values())
    missing = sorted(n for n in executable - tested if not n.startswith(MATRIX))
    assert not missing, f"{len(missing)} executable opcodes have no vectors: {' '.join(missing)}"


def test_matrix_instructions_are_in_their_table(machines):
    """tests/sem/test_mfma.py walks these names."""
    for arch in ("gfx942", "gfx950"):
        executable = {n.removesuffix("_e64") for _, _, n, runs in machines(arch).opcodes() if runs}
        assert {n for n in executable if n.startswith(MATRIX)} <= set(ALL)
