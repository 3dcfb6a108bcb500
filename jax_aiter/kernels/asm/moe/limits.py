"""Which of AITER's g1u1 objects compute a call right, found by running each of them (tests/asm/test_fused_moe_sweep.py).

AITER checks none of this: outside these limits the kernels return numbers that are not the answer, or read beyond the arrays.
"""

from __future__ import annotations

import jax
import numpy as np

from jax_aiter.kernels.asm.tables import Kernel

UINT32 = 2**32
EXPERT_BYTES = 0x140  # of the argument block

# In these the loop over output columns never stores to LDS what it multiplies: all but the last 256 columns stay zero.
DEFECTIVE = {
    "gfx942": tuple(f"fmoe_{out}_pertokenFp8_g1u1_vs_{act}_1tg_32x128" for out in ("bf16", "fp16") for act in ("silu", "gelu")),
    "gfx950": tuple(f"fmoe_{out}_pertokenFp8_g1u1_vs_{act}_1tg_32x128" for out in ("bf16", "fp16") for act in ("silu", "gelu")),
}

# Every s_waitcnt in it has vmcnt 63, the most there is, which waits for nothing: registers are used whether their loads are there
# or not. Of all objects of both architectures it is the only one with loads and no wait for any.
UNAWAITED = {"gfx942": ("fmoe_bf16_a16_blockscaleFp8_g1u1_vs_silu_1tg_16x128_pf3",)}

MENDED = "0.1.9"  # gfx942's with bfloat16 output


def defect(row: Kernel) -> str | None:
    """What is wrong with an object at any size."""
    stem = row.path.rpartition("/")[2].removesuffix(".co")
    mended = row.arch == "gfx942" and "_bf16_" in stem
    if stem in DEFECTIVE.get(row.arch, ()) and not (mended and row.since(MENDED)):
        return "computes the last 256 columns of the output only"
    if stem in UNAWAITED.get(row.arch, ()):
        return "uses what it loads without waiting for it"
    return None


def step(row: Kernel) -> int:
    """Of what D must be a multiple: a kernel whose loop takes two steps of 256 at once has no code for one step left over."""
    if "MXfp4" in row.symbol:
        return 512
    if row["smf"] == 1:
        return 512 if "Int8" in row.symbol else 256
    if "Int8" in row.symbol or row["smf"] == 2:
        return 256
    rows, tile = row.number("subGU_m"), row.number("subGU_n")
    if "pertokenFp8" in row.symbol:
        return 256 if row["ps"] == 1 or tile == 128 else 512
    return 256 if rows == 64 or (row.arch == "gfx942" and (rows, tile) == (32, 128)) else 512


def smallest(row: Kernel) -> int:
    """The least D: two steps are fetched before the first test of how many there are, four where the symbol says prefetch."""
    if "MXfp4" in row.symbol:
        return 512
    deep = "_pf" in row.symbol or bool(row.fields.get("flat"))
    deep = deep or (row.arch == "gfx950" and "_blockscale" in row.symbol and row["subGU_n"] == 128 and row["subGU_m"] == 32)
    return 1024 if deep else 512


def takes_float(row: Kernel) -> bool:
    """Whether the kernel quantises bfloat16 hidden states itself.

    The table tells, not the symbol: gfx950's ``blockscaleBf16_g1u1_ps_gelu_32x128`` is listed for fp8 and takes fp8.
    """
    return "_a16_" in row.symbol or "blockscaleBf16" in row.table


def reaches(row: Kernel) -> bool:
    """Whether the kernel multiplies an expert's number with the bytes of one to 64 bits.

    The others keep the lower 32 bits, so that in weights of 4 GiB they read one expert for another. Only some of the block-scale
    kernels were made for more, and not in every release, so the object is asked: it loads the bytes of an expert of w1 (eGUs,
    ``s_load_dword sN, s[0:1], 0x140``) into a register, and those that reach multiply that one by ``s_mul_hi_u32``.
    """
    if "_blockscale" not in row.path:
        return False
    code = row.code()
    words = np.frombuffer(code[: len(code) // 4 * 4], "<u4")
    loads = np.flatnonzero((words[:-1] & 0xFFFFE03F) == 0xC0020000)
    registers = {int(words[i] >> 6) & 0x7F for i in loads[words[loads + 1] == EXPERT_BYTES]}
    high = words[words >> 23 == 0x96000000 >> 23]
    return any(bool(((high & 0xFF) == r).any() or ((high >> 8 & 0xFF) == r).any()) for r in registers)


def far(row: Kernel, w1: jax.ShapeDtypeStruct, w2: jax.ShapeDtypeStruct) -> str | None:
    """Why a kernel cannot find every expert."""
    for name, w in (("w1", w1), ("w2", w2)):
        size = w.size * w.dtype.itemsize
        if size >= UINT32 and not reaches(row):
            return f"{name} has {size} bytes; {row.symbol} finds an expert in them with 32 bits"
    return None


def outside(row: Kernel, dim: int, inter: int) -> str | None:
    """Why a kernel cannot run at these sizes."""
    tile, multiple, least = row.number("subGU_n"), step(row), smallest(row)
    if inter % tile:
        return f"I = {inter}; a workgroup of {row.symbol} takes {tile} columns, I must be a multiple"
    if dim < least or dim % multiple:
        return f"D = {dim}; {row.symbol} walks D in steps of {multiple}, D must be a multiple and at least {least}"
    return None
