"""Every vector ALU opcode against AMD's pseudo-code, in all its operand forms and modifiers.

Left out here, with tests of their own: lane moves, matrix instructions, 8-bit and scaled conversions, the division
helpers, DPP and SDWA (see the other modules of this folder).
"""

from __future__ import annotations

import assembler
import opcodes
import oracle
import pytest
from kernels import HEADER
from machine import Machine
from valu_cases import Case, variants
from valu_check import check

ELSEWHERE = {
    "v_readfirstlane_b32": "test_lanes",
    "v_readlane_b32": "test_lanes",
    "v_writelane_b32": "test_lanes",
    "v_swap_b32": "test_lanes",
    "v_permlane16_swap_b32": "test_lanes",
    "v_permlane32_swap_b32": "test_lanes",
    "v_div_scale_f32": "test_division",
    "v_div_scale_f64": "test_division",
    "v_div_fmas_f32": "test_division",
    "v_div_fmas_f64": "test_division",
    "v_trig_preop_f64": "tests/sem",
    "v_div_fixup_f32": "test_division",
    "v_div_fixup_f64": "test_division",
    "v_cvt_f32_fp8": "test_fp8",
    "v_cvt_f32_bf8": "test_fp8",
    "v_cvt_pk_f32_fp8": "test_fp8",
    "v_cvt_pk_f32_bf8": "test_fp8",
    "v_cvt_pk_fp8_f32": "test_fp8",
    "v_cvt_pk_bf8_f32": "test_fp8",
    "v_cvt_sr_fp8_f32": "test_fp8",
    "v_cvt_sr_bf8_f32": "test_fp8",
    "v_cvt_sr_f16_f32": "test_fp8",
    "v_cvt_sr_bf16_f32": "test_fp8",
    "v_nop": "no effect",
    "v_clrexcp": "no effect",
    "v_bitop3_b32": "test_lanes",
    "v_bitop3_b16": "test_lanes",
    "v_dot2_f32_f16": "test_dot",
    "v_dot2c_f32_f16": "test_dot",
    "v_dot2_f32_bf16": "test_dot",
    "v_dot2c_f32_bf16": "test_dot",
    "v_mad_mix_f32": "test_mix",
    "v_fma_mix_f32": "test_mix",
}
SKIPPED_PREFIXES = ("v_mfma", "v_smfmac", "v_accvgpr", "v_cvt_scalef32", "v_mad_mix", "v_fma_mix")
VECTOR = ("VOP1", "VOP2", "VOP3", "VOP3P", "VOPC")


def covered(arch: str) -> list[opcodes.Opcode]:
    """For gfx950, only what gfx942 does not have: the two share their lane kernels."""
    out = []
    for op in opcodes.rows(arch):
        if arch == "gfx950" and op.archs & opcodes.ARCH_BIT["gfx942"]:
            continue
        if op.encoding in VECTOR and op.base not in ELSEWHERE and not op.base.startswith(SKIPPED_PREFIXES):
            out.append(op)
    return out


def names() -> list[str]:
    """gfx942's opcodes, then those only gfx950 has."""
    first = [f"gfx942-{op.encoding}-{op.mnemonic}" for op in covered("gfx942")]
    return first + [f"gfx950-{op.encoding}-{op.mnemonic}" for op in covered("gfx950")]


class Suite:
    """All cases of one architecture, assembled together."""

    def __init__(self, machine: Machine):
        self.machine = machine
        self.cases: dict[str, list[Case]] = {}
        texts: dict[str, str] = {}
        for op in covered(machine.arch):
            if oracle.program(op.base) is None:
                continue
            self.cases[f"{op.encoding}-{op.mnemonic}"] = found = list(variants(op))
            texts.update({case.name: case.text for case in found})
        image, self.rejected = assembler.assemble_valid(texts, machine.arch, HEADER)
        self.module = machine.load(image)


@pytest.fixture(scope="session")
def suites(machines) -> dict[str, Suite]:
    return {}


@pytest.mark.parametrize("name", names())
def test_opcode(machines, suites, name):
    arch, key = name.split("-", 1)
    if arch not in suites:
        suites[arch] = Suite(machines(arch))
    suite = suites[arch]
    mnemonic = key.split("-")[1]
    base = mnemonic.removesuffix("_e32").removesuffix("_e64")
    if not suite.machine.lib.vgpu_isa_executable(arch.encode(), base.encode()):
        pytest.skip(f"{mnemonic} decodes but is not executable")
    assert key in suite.cases, f"{mnemonic} is executable but there is no pseudo-code to test it with"
    ran = 0
    for case in suite.cases[key]:
        if case.name not in suite.rejected:
            check(suite.machine, suite.module, case, groups=2 if case.name.endswith("__vector") else 1)
            ran += 1
    assert ran, f"no form of {mnemonic} assembles: {suite.rejected[suite.cases[key][0].name]}"
