"""The loader refuses what is not a code object of the device, whatever is wrong with it."""

from __future__ import annotations

import ctypes
import random
import struct

import assembler
import numpy as np
import pytest
from machine import Machine
from programs import PROLOGUE, arguments, source


@pytest.fixture(scope="module")
def image(library) -> bytes:
    text = source("k", PROLOGUE + "  global_store_dword v1, v0, s[4:5]")
    text += ".data\n.globl table\n.p2align 3\n.type table,@object\ntable:\n  .quad table + 8\n  .long 7\n.size table, 12\n"
    return assembler.assemble(text, "gfx942")


def test_global_is_relocated_and_found(machine, image):
    module = machine.load(image)
    pointer, size = ctypes.c_void_p(), ctypes.c_size_t()
    find = machine.lib.vgpu_isa_global
    assert find(machine.handle, module, b"table", ctypes.byref(pointer), ctypes.byref(size)) == 0
    assert size.value == 12
    words = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint32)), (3,))
    assert int(words[0]) | int(words[1]) << 32 == pointer.value + 8
    assert words[2] == 7
    assert find(machine.handle, module, b"absent", ctypes.byref(pointer), ctypes.byref(size)) == -1


def test_bundle(machine, image):
    name = b"hipv4-amdgcn-amd-amdhsa--gfx942:sramecc+:xnack-"
    other = b"host-x86_64-unknown-linux--"
    header_size = 24 + 8 + 2 * 24 + len(name) + len(other)
    header = b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", 2)
    header += struct.pack("<QQQ", header_size, 0, len(other)) + other
    header += struct.pack("<QQQ", header_size, len(image), len(name)) + name
    out = machine.array(np.zeros(64, np.uint32))
    machine.launch(machine.load(header + image), "k", arguments(out))
    np.testing.assert_array_equal(out.numpy(), np.arange(64))
    with pytest.raises(RuntimeError, match="no entry for gfx942"):
        machine.load(header.replace(b"gfx942", b"gfx90a") + image)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"", "neither an ELF"),
        (b"\x7fELF", "neither an ELF|not a 64-bit"),
        (b"CCOB" + bytes(100), "compressed"),
        (b"PK" + bytes(200), "neither an ELF"),
    ],
)
def test_not_a_code_object(machine, bad, message):
    with pytest.raises(RuntimeError, match=message):
        machine.load(bad + bytes(64) if bad else b"\0" * 80)


def test_wrong_architecture(machine, library):
    other = assembler.assemble(source("k", "  s_nop 0"), "gfx950")
    with pytest.raises(RuntimeError, match="code object is for machine 0x4f, the device is gfx942"):
        machine.load(other)
    assert Machine("gfx950", library).load(other) == 0


def test_damaged_images_never_crash(machine, image):
    rng = random.Random(0)
    refused = 0
    for trial in range(400):
        damaged = bytearray(image)
        if trial % 2:
            del damaged[rng.randrange(len(damaged)) :]
        for _ in range(rng.randrange(1, 6)):
            if damaged:
                # Headers decide most: hit them more often.
                at = rng.randrange(min(len(damaged), rng.choice([64, 512, len(image)])))
                damaged[at] = rng.randrange(256)
        if len(damaged) < 64:
            damaged += bytes(64 - len(damaged))
        data = bytes(damaged)
        if machine.lib.vgpu_isa_load(machine.handle, data, ctypes.c_size_t(len(data))) < 0:
            refused += 1
            assert machine.error()
    assert refused > 100
