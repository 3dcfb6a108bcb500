"""Every scalar load, store and atomic against AMD's pseudo-code: each workgroup is one vector, on memory of its own."""

from __future__ import annotations

import struct

import assembler
import numpy as np
import opcodes
import oracle
import pytest
from kernels import HEADER, kernel
from pcode.functions import FUNCTIONS
from pcode.interpreter import Interpreter
from pcode.values import Value, make

VECTORS, SLOT, DATA = 12, 64, 16  # dwords of memory and of data registers per workgroup
IMMEDIATE, REGISTER = 0x18, 0x20  # offsets in bytes
FORMS = {"immediate": (IMMEDIATE, "0x18"), "register": (REGISTER, "s40"), "both": (IMMEDIATE + REGISTER, "s40 offset:0x18")}
# A buffer ends after the first access, in its middle, or before it.
LIMITS = (4 * SLOT, IMMEDIATE + REGISTER + 8, 4)


def covered() -> list[opcodes.Opcode]:
    moves = ("load", "store", "atomic")
    rows = [op for op in opcodes.rows("gfx942") if op.encoding == "SMEM" and any(m in op.base for m in moves)]
    return [op for op in rows if "scratch" not in op.base]


def registers(first: int, count: int) -> str:
    return f"s{first}" if count == 1 else f"s[{first}:{first + count - 1}]"


def through_buffer(op: opcodes.Opcode) -> bool:
    return op.width("b") == 4


def texts_of(op: opcodes.Opcode) -> dict[str, str]:
    out = {}
    for form, (_, shown) in FORMS.items():
        for limit in LIMITS if through_buffer(op) else LIMITS[:1]:
            name = f"{op.mnemonic}__{form}__{limit}"
            glc = " glc" if "atomic" in op.base else ""
            body = f"""
  s_load_dwordx16 s[20:35], s[4:5], -0x1000
  s_lshl_b32 s40, s2, 8
  s_add_u32 s36, s16, s40
  s_addc_u32 s37, s17, 0
  s_mov_b32 s38, {limit}
  s_mov_b32 s39, 0x27000
  s_mov_b32 s40, {REGISTER}
  s_waitcnt lgkmcnt(0)
  {op.mnemonic} {registers(20, op.width("d"))}, {registers(36, op.width("b"))}, {shown}{glc}
  s_waitcnt lgkmcnt(0)
  s_dcache_wb
"""
            out[name] = kernel(name, body, 1, [f"s{20 + i}" for i in range(DATA)])
    return out


class Memory:
    """The pseudo-code's MEM over one workgroup's memory; beyond `limit` nothing is read or written."""

    def __init__(self, words: np.ndarray, limit: int):
        self.data, self.limit = bytearray(words.astype("<u4").tobytes()), limit

    def __getitem__(self, at: int) -> Value:
        inside = self.data[at : max(at, min(at + 8, self.limit))]
        return make("b", 64, int.from_bytes(inside, "little"))

    def __setitem__(self, at: int, value: Value) -> None:
        size = value.width // 8
        if at + size <= self.limit:
            self.data[at : at + size] = (value.bits & ((1 << value.width) - 1)).to_bytes(size, "little")


def expected(op: opcodes.Opcode, offset: int, limit: int, data: np.ndarray, words: np.ndarray) -> tuple[list[int], bytes]:
    width = op.width("d")
    memory = Memory(words, limit)
    bits = sum(int(x) << (32 * i) for i, x in enumerate(data[:width]))
    returned = "RETURN_DATA" if "atomic" in op.base else "SDATA"
    # An atomic that would reach over the end does not happen at all.
    size = 4 * width // (2 if "cmpswap" in op.base else 1)
    if "atomic" in op.base and offset + size > limit:
        return [0] * (size // 4) + [int(x) for x in data[size // 4 :]], bytes(memory.data)
    address = make("u", 64, offset)
    store = {
        "MEM": memory,
        "SDATA": make("b", 512, bits),
        "DATA": make("b", 128, bits),
        "RETURN_DATA": make("b", 64, 0),
        **{n: make("b", 64, 0) for n in ("SBASE", "SOFFSET", "OFFSET")},
    }
    address_functions = {f"CalcScalar{kind}Addr": lambda *unused: address for kind in ("Global", "Buffer")}
    Interpreter(store, functions={**FUNCTIONS, **address_functions}).run(oracle.program(op.base))
    result = [int(x) for x in data]
    if "store" not in op.base:
        for i in range(size // 4):
            result[i] = store[returned].bits >> (32 * i) & 0xFFFFFFFF
    return result, bytes(memory.data)


@pytest.fixture(scope="module")
def module(machines):
    machine = machines("gfx942")
    kernels = {name: text for op in covered() for name, text in texts_of(op).items()}
    image, rejected = assembler.assemble_valid(kernels, "gfx942", HEADER)
    assert not rejected, rejected
    return machine, machine.load(image)


@pytest.mark.parametrize("op", covered(), ids=lambda op: op.mnemonic)
def test_opcode(module, op):
    machine, loaded = module
    assert machine.lib.vgpu_isa_executable(b"gfx942", op.base.encode())
    for name in texts_of(op):
        _, form, limit = name.split("__")
        offset = FORMS[form][0]
        rng = np.random.default_rng(sum(name.encode()))
        data = rng.integers(0, 1 << 32, (VECTORS, 1, 64), dtype=np.uint32)
        words = rng.integers(0, 1 << 32, (VECTORS, SLOT), dtype=np.uint32)
        small = rng.integers(0, 6, (2, VECTORS, SLOT), dtype=np.uint32)  # so that limits of inc, dec, min and max are met
        data[: VECTORS // 2, 0], words[: VECTORS // 2] = small[0, : VECTORS // 2], small[1, : VECTORS // 2]
        if "cmpswap" in op.base:  # half of them succeed
            half = op.width("d") // 2
            data[::2, 0, half : 2 * half] = words[::2, offset // 4 : offset // 4 + half]
        with (
            machine.array(data) as source,
            machine.array(np.zeros((VECTORS, DATA, 64), np.uint32)) as target,
            machine.array(words) as memory,
        ):
            args = struct.pack("<QQQ", source.pointer, target.pointer, memory.pointer)
            machine.launch(loaded, name, args, grid=(VECTORS, 1, 1))
            out, after = target.numpy(), memory.numpy()
        for i in range(VECTORS):
            result, bytes_after = expected(op, offset, int(limit), data[i, 0, :DATA], words[i])
            assert [int(x) for x in out[i, :, 0]] == result, f"{name}: vector {i}"
            assert after[i].tobytes() == bytes_after, f"{name}: memory of vector {i}"
