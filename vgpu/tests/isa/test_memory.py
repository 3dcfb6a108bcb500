"""Every load, store and atomic against AMD's pseudo-code, each lane on a slot of its own."""

from __future__ import annotations

import struct

import assembler
import numpy as np
import opcodes
import oracle
import pytest
from kernels import HEADER
from memory_cases import EXEC, LOCAL, OFFSET, OFFSETS, SLOT, SOFFSET, MemoryCase, build
from pcode.functions import FUNCTIONS
from pcode.interpreter import Interpreter
from pcode.values import Value, make
from vectors import fill

ENCODINGS = ("DS", "GLOBAL", "FLAT", "MUBUF", "SCRATCH")
# Tested in test_lds and test_buffer, or not about a lane's own memory.
SKIPPED = {
    "ds_nop",
    "ds_write_addtid_b32",
    "ds_read_addtid_b32",
    "ds_swizzle_b32",
    "ds_permute_b32",
    "ds_bpermute_b32",
    "ds_consume",
    "ds_append",
    "ds_wrap_rtn_b32",
    "ds_condxchg32_rtn_b64",
    "buffer_wbl2",
    "buffer_inv",
}
SKIPPED_PARTS = ("_format", "_lds_", "gws", "_tr_b")
GROUPS = 2


def covered(arch: str) -> list[opcodes.Opcode]:
    """For gfx950, only what gfx942 does not have."""
    return [
        op
        for op in opcodes.rows(arch)
        if op.encoding in ENCODINGS
        and op.base not in SKIPPED
        and not any(part in op.base for part in SKIPPED_PARTS)
        and (arch == "gfx942" or not op.archs & opcodes.ARCH_BIT["gfx942"])
    ]


class Slot:
    """A lane's memory, as the pseudo-code's MEM."""

    def __init__(self, data: bytearray):
        self.data = data

    def __getitem__(self, at: int) -> Value:
        return make("b", 128, int.from_bytes(self.data[at : at + 16], "little"))

    def __setitem__(self, at: int, value: Value) -> None:
        size = value.width // 8
        self.data[at : at + size] = (value.bits & ((1 << value.width) - 1)).to_bytes(size, "little")


def access_bytes(op: opcodes.Opcode) -> int:
    width = max(op.width("d"), op.width("0"))
    for name, size in (
        ("byte", 1),
        ("b8", 1),
        ("_u8", 1),
        ("_i8", 1),
        ("short", 2),
        ("b16", 2),
        ("_u16", 2),
        ("_i16", 2),
    ):
        if name in op.base:
            return size
    if "cmpswap" in op.base or "2_" in op.base or "2st64" in op.base:
        width = op.width("0") // (2 if "cmpswap" in op.base else 1) or op.width("d") // 2
    return 4 * width


def element_type(op: opcodes.Opcode) -> str:
    return next((t for t in ("bf16", "f16", "f32", "f64") if op.base.endswith(t)), "int")


def ordinary_floats(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """Normal numbers only: what denormals and NaN do in memory atomics is not documented."""
    values = rng.normal(size=shape) * 4 + 0.125
    if kind == "f64":
        flat = values.astype(np.float64).view(np.uint32).reshape(shape[0], shape[1], 2)
        return np.where(np.arange(shape[0])[:, None] % 2, flat[..., 1], np.roll(flat[..., 0], 1, axis=0))
    if kind == "f32":
        return values.astype(np.float32).view(np.uint32)
    if kind == "f16":
        low = values.astype(np.float16).view(np.uint16).astype(np.uint32)
        return low | np.roll(low, 1, axis=1) << 16
    bits = values.astype(np.float32).view(np.uint32)
    return bits >> 16 | (np.roll(bits, 1, axis=1) & 0xFFFF0000)


def data_for(case: MemoryCase) -> np.ndarray:
    """[dword][lane of all groups]: 0 offset, 2.. data, 6.. second data, 10.. old result, 14.. the slot."""
    op, lanes = case.op, GROUPS * 64
    rng = np.random.default_rng(sum(case.name.encode()))
    kind = element_type(op)
    data = fill(rng, "int", 30, lanes)
    if kind != "int":
        data[2:10] = ordinary_floats(rng, kind, (8, lanes))
        data[14:30] = ordinary_floats(rng, kind, (16, lanes))
    size = access_bytes(op)
    align = 4 if "b96" in op.base or "x3" in op.base else min(size, 16)
    if "st64" in op.base:
        data[0] = 0
    else:
        room = SLOT - 16 - OFFSET - (OFFSETS[1] * size if "2_" in op.base else 0) - SOFFSET
        base = rng.integers(0, max(room // align, 1), lanes) * align
        # Two-address LDS forms have no byte offset; buffer forms add SOFFSET. Keep the sum aligned.
        fixed = 0 if "2_" in op.base and op.encoding == "DS" else OFFSET + (SOFFSET if op.encoding == "MUBUF" else 0)
        data[0] = (base + (-fixed) % align).astype(np.uint32)
    # Compare-and-swap should succeed about half the time.
    if "cmpswap" in op.base or "cmpst" in op.base:
        half = rng.integers(0, 2, lanes).astype(bool)
        fixed = OFFSET + (SOFFSET if op.encoding == "MUBUF" else 0)
        words = max(size // 4, 1)
        for lane in np.flatnonzero(half):
            first = 14 + (int(data[0, lane]) + fixed) // 4
            target = 2 if op.encoding == "DS" else 2 + words
            data[target : target + words, lane] = data[first : first + words, lane]
    return data


def expected(case: MemoryCase, column: np.ndarray, active: bool) -> tuple[list[int], bytes]:
    """The four result dwords and the slot afterwards."""
    op = case.op
    slot = bytearray(column[14:30].astype("<u4").tobytes() + bytes(64))
    result = [int(x) for x in column[10:14]]
    if op.encoding == "MUBUF" and "atomic" in op.base:
        for i in range(op.width("0")):
            result[i] = int(column[2 + i])
    if not active:
        return result, bytes(slot[:SLOT])
    text = oracle.program(op.base)
    two = "2_" in op.base or "2st64" in op.base
    offsets = OFFSETS if "st64" not in op.base else (0, 0)
    fixed = OFFSET + (SOFFSET if op.encoding == "MUBUF" else 0)
    at = int(column[0])
    address = make("u", 64, at if two or "CalcDsAddr" in text else at + fixed)

    def wide(first: int, count: int) -> Value:
        return make("b", 32 * count, sum(int(column[first + i]) << (32 * i) for i in range(count)))

    base_address = make("u", 64, at + fixed)
    old = make("b", 128, sum(x << (32 * i) for i, x in enumerate(result)))
    store = {
        "MEM": Slot(slot),
        "ADDR": address,
        "ADDR_BASE": make("u", 64, at),
        "DATA": wide(2, 4),
        "DATA2": wide(6, 4),
        "OFFSET": make("u", 32, OFFSET),
        "OFFSET0": make("u", 32, offsets[0]),
        "OFFSET1": make("u", 32, offsets[1]),
        "VDATA": old if "load" in op.base else wide(2, 4),
        "RETURN_DATA": old,
        "SADDR": make("u", 64, 0),
        "VADDR": address,
        "SRSRC": make("u", 64, 0),
        "SOFFSET": make("u", 32, 0),
    }
    functions = {
        "CalcDsAddr": lambda a, o0, o1: make("u", 64, at + (OFFSET if o0.bits or o1.bits else 0)),
        "CalcGlobalAddr": lambda *unused: base_address,
        "CalcBufferAddr": lambda *unused: base_address,
        "CalcFlatAddr": lambda *unused: base_address,
        "CalcScratchAddr": lambda *unused: base_address,
    }
    if "CalcDsAddr" in text and not two:  # the address function gets the raw offset bytes
        store["OFFSET0"], store["OFFSET1"] = make("u", 32, OFFSET), make("u", 32, 0)
    Interpreter(store, functions={**FUNCTIONS, **functions}).run(text)
    atomic = "atomic" in op.base or (op.encoding == "DS" and op.width("d"))
    got = store["RETURN_DATA"] if atomic else store["VDATA"] if "load" in op.base else old
    width = op.width("d") or (op.width("0") // (2 if "cmpswap" in op.base else 1) if atomic else op.width("0"))
    if "load" in op.base or atomic:
        for i in range(width):
            result[i] = (got.bits >> (32 * i)) & 0xFFFFFFFF
    return result, bytes(slot[:SLOT])


@pytest.fixture(scope="module")
def modules(machines):
    found = {}

    def get(arch: str):
        if arch not in found:
            machine = machines(arch)
            cases = {op.mnemonic: build(op) for op in covered(arch)}
            image, rejected = assembler.assemble_valid({c.name: c.text for c in cases.values()}, arch, HEADER)
            assert not rejected
            found[arch] = machine, machine.load(image), cases
        return found[arch]

    return get


OPCODES = [pytest.param(arch, op, id=f"{arch}-{op.mnemonic}") for arch in ("gfx942", "gfx950") for op in covered(arch)]


@pytest.mark.parametrize(("arch", "op"), OPCODES)
def test_opcode(modules, arch, op):
    machine, loaded, cases = modules(arch)
    if not machine.lib.vgpu_isa_executable(arch.encode(), op.base.encode()):
        pytest.skip(f"{op.mnemonic} decodes but is not executable")
    case = cases[op.mnemonic]
    data = data_for(case)
    grouped = data.reshape(30, GROUPS, 64).transpose(1, 0, 2).copy()
    slots = grouped[:, 14:30].transpose(0, 2, 1).copy()  # [group][lane][dword]
    with (
        machine.array(grouped) as source,
        machine.array(np.zeros((GROUPS, case.outputs, 64), np.uint32)) as target,
        machine.array(slots) as memory,
    ):
        args = struct.pack("<QQQ", source.pointer, target.pointer, memory.pointer)
        machine.launch(loaded, case.name, args, grid=(GROUPS, 1, 1))
        out, after = target.numpy(), memory.numpy()
    for group in range(GROUPS):
        for lane in range(64):
            column = grouped[group, :, lane]
            result, slot = expected(case, column, bool(EXEC >> lane & 1))
            got = [int(x) for x in out[group, :4, lane]]
            got_slot = out[group, 4:, lane].tobytes() if op.encoding in LOCAL else after[group, lane].tobytes()
            context = f"{case.name} lane {lane} at byte {int(column[0])}, data {[hex(x) for x in column[2:6]]}"
            assert got == result, f"{context}: returned {[hex(x) for x in got]}, expected {[hex(x) for x in result]}"
            assert got_slot == slot, f"{context}: memory {got_slot.hex()}, expected {slot.hex()}"
