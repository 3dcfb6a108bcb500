"""Matrix instructions through the decoder: register numbering, accumulation registers, overlaps, EXEC and SGPR-free forms.

What each shape computes is tested in tests/sem/test_mfma.py; here one kernel per instruction shows that the operands
reach it, for every shape of both architectures.
"""

from __future__ import annotations

import re

import assembler
import numpy as np
import opcodes
import pytest
from kernels import HEADER, kernel
from valu_check import launch

ONE = {
    "f32": 0x3F800000,
    "xf32": 0x3F800000,
    "f16": 0x3C003C00,
    "bf16": 0x3F803F80,
    "i8": 0x01010101,
    "fp8": 0x40404040,
    "bf8": 0x40404040,
}  # 1.0 in FNUZ
ONE_OCP = {**ONE, "fp8": 0x38383838, "bf8": 0x3C3C3C3C}


def dense(arch: str) -> list[opcodes.Opcode]:
    return [op for op in opcodes.rows(arch) if re.match(r"v_mfma_(f32|i32)_\d", op.base) and "f8f6f4" not in op.base]


def shape(name: str) -> tuple[int, int, int, int, str, str]:
    m = re.match(r"v_mfma_\w+?_(\d+)x(\d+)x(\d+)_(?:(\d+)b_)?(\w+?)(?:_(\w+))?$", name)
    return int(m[1]), int(m[2]), int(m[3]), int(m[4] or 1), m[5], m[6] or m[5]


def registers(first: int, count: int, letter: str) -> str:
    return f"{letter}{first}" if count == 1 else f"{letter}[{first}:{first + count - 1}]"


def text_of(op: opcodes.Opcode, letters: str, arch: str, constant: str | None = None) -> str:
    """A and B all ones except that lane 5 of A is doubled in its first dword's place; C is 3 everywhere."""
    *_, ta, tb = shape(op.base)
    ones = ONE if arch == "gfx942" else ONE_OCP
    a, b, d = op.width("0"), op.width("1"), op.width("d")
    place = {"v": 64, "a": 0}
    names = [
        registers(place[letters[0]], d, letters[0]),
        registers(24 if letters[1] == "v" else 40, a, letters[1]),
        registers(40 if letters[2] == "v" else 48, b, letters[2]),
    ]
    c = constant or names[0]
    lines = []
    for letter, first, count, value in (
        (letters[1], 24 if letters[1] == "v" else 40, a, ones[ta]),
        (letters[2], 40 if letters[2] == "v" else 48, b, ones[tb]),
    ):
        for i in range(count):
            lines.append(f"  v_mov_b32 v3, {value:#x}")
            lines.append(f"  v_mov_b32 v{first + i}, v3" if letter == "v" else f"  v_accvgpr_write_b32 a{first + i}, v3")
    three = 3 if "i32" in op.base else 0x40400000
    lines.append(f"  v_mov_b32 v3, {three:#x}")
    for i in range(d):
        lines.append(f"  v_mov_b32 v{64 + i}, v3" if letters[0] == "v" else f"  v_accvgpr_write_b32 a{i}, v3")
    lines += ["  s_nop 7", "  s_mov_b32 exec_lo, 0x0", "  s_mov_b32 exec_hi, 0x10"]
    lines += [f"  {op.mnemonic} {', '.join([*names, c])}", "  s_nop 7", "  s_nop 7", "  s_mov_b64 exec, -1"]
    for i in range(d):
        lines.append(f"  v_mov_b32 v{64 + i}, v{64 + i}" if letters[0] == "v" else f"  v_accvgpr_read_b32 v{64 + i}, a{i}")
    return "\n".join(lines)


FORMS = {"vvv": None, "aaa": None, "vav": None, "vvv_zero": "0"}


@pytest.fixture(scope="module")
def suite(machines):
    found = {}

    def get(arch: str):
        if arch not in found:
            texts = {}
            for op in dense(arch):
                for form, constant in FORMS.items():
                    name = f"{op.base}__{form}"
                    d = op.width("d")
                    # 32 results do not fit the 32-dword window twice over: the first 16 and the last 15 are read
                    outputs = [f"v{64 + i}" for i in range(min(d, 31))]
                    texts[name] = kernel(name, text_of(op, form[:3], arch, constant), 1, outputs)
            texts = {
                n: t.replace("next_free_vgpr 128", "next_free_vgpr 256").replace("accum_offset 64", "accum_offset 128")
                for n, t in texts.items()
            }
            image, rejected = assembler.assemble_valid(texts, arch, HEADER)
            assert not rejected, rejected
            found[arch] = machines(arch), machines(arch).load(image)
        return found[arch]

    return get


CASES = [("gfx942", op) for op in dense("gfx942")] + [("gfx950", op) for op in dense("gfx950")]


@pytest.mark.parametrize(("arch", "op"), CASES, ids=lambda x: getattr(x, "base", x))
def test_dense(suite, arch, op):
    machine, module = suite(arch)
    if not machine.lib.vgpu_isa_executable(arch.encode(), op.base.encode()):
        pytest.skip(f"{op.base} decodes but is not executable")
    k = shape(op.base)[2]
    for form in FORMS:
        out = launch(machine, module, f"{op.base}__{form}", np.zeros((1, 1, 64), np.uint32), min(op.width("d"), 31))[0]
        values = out.view(np.int32).astype(np.float64) if "i32" in op.base else out.view(np.float32)
        np.testing.assert_array_equal(values, float(k + (0 if form.endswith("zero") else 3)), err_msg=form)
