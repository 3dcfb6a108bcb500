"""The decoder's text equals LLVM's on AITER's code objects: a sample always, every instruction when asked for."""

from __future__ import annotations

import ctypes
import ctypes.util
import random
import re
import struct
from pathlib import Path

import pytest

CANDIDATES = ["libLLVM.so.22.1", "libLLVM-22.so", "libLLVM.so.21.1", "libLLVM.so.20.1"]
SAMPLE_OBJECTS, SAMPLE_INSTRUCTIONS = 12, 1500


class Llvm:
    """LLVM's disassembler through its C interface."""

    def __init__(self, cpu: str):
        self.lib = self.open_library()
        for part in ("TargetInfo", "Target", "TargetMC", "Disassembler"):
            getattr(self.lib, "LLVMInitializeAMDGPU" + part)()
        create, self.disassemble = self.lib.LLVMCreateDisasmCPU, self.lib.LLVMDisasmInstruction
        create.restype = ctypes.c_void_p
        self.disassemble.restype = ctypes.c_size_t
        self.handle = ctypes.c_void_p(create(b"amdgcn-amd-amdhsa", cpu.encode(), None, 0, None, None))
        self.text = ctypes.create_string_buffer(512)

    @staticmethod
    def open_library() -> ctypes.CDLL:
        for name in CANDIDATES:
            try:
                library = ctypes.CDLL(name)
            except OSError:
                continue
            if hasattr(library, "LLVMInitializeAMDGPUDisassembler"):
                return library
        pytest.skip("needs LLVM 20 or later with the AMDGPU target (libLLVM)")

    def __call__(self, code: bytes) -> tuple[int, str]:
        size = self.disassemble(self.handle, code, ctypes.c_uint64(len(code)), ctypes.c_uint64(0), self.text,
                                ctypes.c_size_t(512))  # fmt: skip
        return size, re.sub(r"\s+", " ", re.sub(r"//.*", "", self.text.value.decode())).strip()


def text_section(image: bytes) -> bytes:
    (offset,) = struct.unpack_from("<Q", image, 40)
    count, names = struct.unpack_from("<HH", image, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, offset + 64 * i) for i in range(count)]
    base = sections[names][4]
    for section in sections:
        start = base + section[0]
        if image[start : image.index(0, start)] == b".text":
            return image[section[4] : section[4] + section[5]]
    return b""


def disagreements(machine, llvm: Llvm, files: list[Path], limit: int | None) -> tuple[int, list[str]]:
    """Number of distinct instructions compared, and those whose length or text differ."""
    sizes: dict[bytes, int] = {}  # the first dword decides the length
    seen: set[bytes] = set()
    wrong = []
    mine = ctypes.create_string_buffer(512)
    for file in files:
        code, at, count = text_section(file.read_bytes()), 0, 0
        while at < len(code) and (limit is None or count < limit):
            first = code[at : at + 4]
            size = sizes.get(first)
            if size is None or code[at : at + size] not in seen:
                words = code[at : at + 16]
                size, expected = llvm(words)
                length = machine.lib.vgpu_isa_disassemble(machine.arch.encode(), words, ctypes.c_size_t(len(words)), mine,
                                                          ctypes.c_size_t(512))  # fmt: skip
                got = mine.value.decode()
                if size != length or (size and got != expected):
                    wrong.append(f"{file.name}+{at:#x}: LLVM {size} {expected!r}, ours {length} {got!r}")
                size = sizes[first] = size or 4  # padding that LLVM does not decode either
                seen.add(code[at : at + size])
            at += size
            count += 1
    return len(seen), wrong


def objects(hsa: Path, arch: str) -> list[Path]:
    return sorted((hsa / arch).rglob("*.co"))


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_sample(hsa, machines, arch):
    files = random.Random(0).sample(objects(hsa, arch), SAMPLE_OBJECTS)
    checked, wrong = disagreements(machines(arch), Llvm(arch), files, SAMPLE_INSTRUCTIONS)
    assert checked > 1000
    assert not wrong, wrong[:10]


@pytest.mark.exhaustive
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_every_instruction(hsa, machines, arch):
    checked, wrong = disagreements(machines(arch), Llvm(arch), objects(hsa, arch), None)
    assert checked > 100_000
    assert not wrong, wrong[:10]


FAMILIES = {"gfx942": ["bf16gemm", "fmoe", "mla", "pa", "topksoftmax"], "gfx950": ["bf16gemm", "topksoftmax"]}


@pytest.mark.parametrize(("arch", "family"), [(arch, f) for arch, families in FAMILIES.items() for f in families])
def test_every_mnemonic_of_a_family_is_executable(hsa, machines, arch, family):
    if not (hsa / arch / family).is_dir():
        pytest.skip("AITER has no such kernels in this release")
    machine = machines(arch)
    executable = {mnemonic for _, _, mnemonic, can in machine.opcodes() if can}
    used: set[str] = set()
    text = ctypes.create_string_buffer(512)
    known: dict[bytes, tuple[int, str]] = {}
    for file in sorted((hsa / arch / family).rglob("*.co"))[:: 1 if family != "fmoe" else 8]:
        code, at = text_section(file.read_bytes()), 0
        while at < len(code):
            first = code[at : at + 16]
            if first not in known:
                size = machine.lib.vgpu_isa_disassemble(arch.encode(), first, ctypes.c_size_t(len(first)), text,
                                                        ctypes.c_size_t(512))  # fmt: skip
                known[first] = (size or 4, re.sub(r"_(e32|e64|sdwa|dpp)$", "", text.value.decode().split()[0]) if size else "")
            size, mnemonic = known[first]
            used.add(mnemonic.replace("v_mfma_scale_", "v_mfma_"))
            at += size
    used.discard("")  # padding
    assert used
    assert used <= executable, sorted(used - executable)
