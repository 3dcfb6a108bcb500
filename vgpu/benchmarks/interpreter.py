"""Speed of the interpreter: CPU time per wave-instruction by kind, and scaling over threads.

python vgpu/benchmarks/interpreter.py              prints one line per kind: of five runs the fastest, and the median
python vgpu/benchmarks/interpreter.py mfma         only of the kinds whose name holds that
python vgpu/benchmarks/interpreter.py f8f6f4 --arch gfx950
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests" / name) for name in ("isa", "exec")]

import ml_dtypes
import numpy as np
from machine import Machine
from programs import arguments, load

UNROLL, ROUNDS = 64, 2000

KINDS = {
    "v_add_f32": "v_add_f32 v{d}, v{a}, v{b}",
    "v_fma_f32": "v_fma_f32 v{d}, v{a}, v{b}, v{d}",
    "v_mul_f32 (scalar)": "v_mul_f32 v{d}, s8, v{b}",
    "v_lshl_add_u32": "v_lshl_add_u32 v{d}, v{a}, 3, v{b}",
    "v_cmp + v_cndmask": "v_cmp_lt_f32 vcc, v{a}, v{b}\n  v_cndmask_b32 v{d}, v{a}, v{b}, vcc",
    "v_pk_fma_f32": "v_pk_fma_f32 v[{e}:{e1}], v[16:17], v[18:19], v[{e}:{e1}]",
    **{
        f"v_{name}_{kind}": f"v_{name}_{kind} v{{d}}, v{{a}}"
        for kind in ("f32", "f16")
        for name in ("exp", "log", "sin", "cos", "rcp", "rsq", "sqrt")
    },
    "v_max_f32": "v_max_f32 v{d}, v{a}, v{b}",
    "v_cvt_f16_f32": "v_cvt_f16_f32 v{d}, v{a}",
    "s_add_u32": "s_add_u32 s12, s12, s8",
    "ds_read_b128": "ds_read_b128 v[4:7], v1",
    "global_load_dwordx4": "global_load_dwordx4 v[4:7], v1, s[4:5]",
}

# Matrix instructions, and what A and B hold.
MATRIX = {
    "mfma 16x16x16 bf16": ("v_mfma_f32_16x16x16_bf16 v[4:7], v[20:21], v[22:23], v[4:7]", "bfloat16"),
    "mfma 32x32x8 bf16": ("v_mfma_f32_32x32x8_bf16 v[4:19], v[20:21], v[22:23], v[4:19]", "bfloat16"),
    "mfma 16x16x32 fp8": ("v_mfma_f32_16x16x32_fp8_fp8 v[4:7], v[20:21], v[22:23], v[4:7]", "float8_e4m3fnuz"),
    "mfma 16x16x16 bf16, NaN": ("v_mfma_f32_16x16x16_bf16 v[4:7], v[20:21], v[22:23], v[4:7]", "bfloat16, NaN"),
    "mfma 4x4x4_16b bf16": ("v_mfma_f32_4x4x4_16b_bf16 v[4:7], v[20:21], v[22:23], v[4:7]", "bfloat16"),
    "mfma 16x16x16 f16": ("v_mfma_f32_16x16x16_f16 v[4:7], v[20:21], v[22:23], v[4:7]", "float16"),
    "smfmac 16x16x32 bf16": ("v_smfmac_f32_16x16x32_bf16 v[4:7], v[20:21], v[22:25], v26", "bfloat16"),
    "mfma 16x16x32 i8": ("v_mfma_i32_16x16x32_i8 v[4:7], v[20:21], v[22:23], v[4:7]", "int8"),
}
ONLY_GFX950 = {
    "mfma 16x16x128 f8f6f4": ("v_mfma_f32_16x16x128_f8f6f4 v[4:7], v[20:27], v[24:31], v[4:7]", "float8_e4m3fn"),
}


def operands(machine: Machine, name: str) -> np.ndarray:
    """12 registers of 64 lanes of what products are made of: normal numbers, finite unless NaN is named (every 100th, so that most
    results meet one), 8-bit floats scaled as quantised rows are, their largest near the format's."""
    rng = np.random.default_rng(0)
    if name == "int8":
        return rng.integers(-128, 128, 12 * 64 * 4, np.int8).view(np.uint32)
    name, _, odd = name.partition(", ")
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    scale = 1.0 if dtype.itemsize == 2 else float(ml_dtypes.finfo(dtype).max) / 4.5
    values = np.clip(rng.normal(size=12 * 64 * 4 // dtype.itemsize), -4.0, 4.0) * scale
    if machine.arch == "gfx942" and dtype.itemsize == 1:
        values[values == 0] = scale  # FNUZ has no zero below zero: that is its NaN
    if odd:
        values[::100] = np.nan
    return values.astype(dtype).view(np.uint32)


def matrix_program(instruction: str) -> str:
    """Accumulators start from zero at each turn of the loop, so that a sum has 64 instructions' depth, as in a matrix product."""
    clear = "\n".join(f"  v_mov_b32 v{r}, 0" for r in range(4, 20 if "32x32" in instruction else 8))
    body = "\n".join(f"  {instruction}" for _ in range(UNROLL))
    load = "\n".join(f"  global_load_dwordx4 v[{20 + 4 * i}:{23 + 4 * i}], v1, s[4:5] offset:{1024 * i}" for i in range(3))
    return f"""
  s_load_dwordx2 s[4:5], s[0:1], 0x0
  v_lshlrev_b32 v1, 4, v0
  s_waitcnt lgkmcnt(0)
{load}
  s_waitcnt vmcnt(0)
  s_movk_i32 s10, {ROUNDS // 4}
loop:
{clear}
{body}
  s_sub_u32 s10, s10, 1
  s_cmp_lg_u32 s10, 0
  s_cbranch_scc1 loop
"""


def program(instruction: str) -> str:
    lines = []
    for i in range(UNROLL):
        d = 4 + i % 8
        e = 4 + 2 * (i % 4)
        lines.append("  " + instruction.format(d=d, a=16 + i % 3, b=20 + i % 5, e=e, e1=e + 1))
    body = "\n".join(lines)
    return f"""
  s_load_dwordx2 s[4:5], s[0:1], 0x0
  s_mov_b32 s8, 1.0
  v_lshlrev_b32 v1, 4, v0
  v_cvt_f32_u32 v16, v0
  v_mov_b32 v17, 0.5
  v_mov_b32 v18, 1.0
  v_mov_b32 v20, 1.0
  v_mov_b32 v21, 0.5
  s_movk_i32 s10, {ROUNDS}
loop:
{body}
  s_sub_u32 s10, s10, 1
  s_cmp_lg_u32 s10, 0
  s_cbranch_scc1 loop
"""


def measure(machine: Machine, module: int, memory, threads: int, groups: int) -> tuple[float, float, int]:
    cpu, wall = time.process_time(), time.perf_counter()
    counts = machine.launch(module, "k", arguments(memory), grid=(groups, 1, 1), threads=threads)
    return time.process_time() - cpu, time.perf_counter() - wall, counts[2]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("word", nargs="?", default="")
    parser.add_argument("--arch", default="gfx942", choices=("gfx942", "gfx950"))
    asked = parser.parse_args()
    machine = Machine(asked.arch)
    memory = machine.array(np.zeros(4096, np.uint32))
    rows = [(kind, program(instruction), memory) for kind, instruction in KINDS.items() if asked.word in kind]
    for kind, (instruction, dtype) in (MATRIX | (ONLY_GFX950 if asked.arch == "gfx950" else {})).items():
        if asked.word in kind:
            rows.append((kind, matrix_program(instruction), machine.array(operands(machine, dtype))))
    for kind, text, data in rows:
        module = load(machine, text, lds=4096)
        runs = [measure(machine, module, data, 1, 1) for _ in range(5)]
        times = [cpu / count for cpu, _, count in runs]
        least, median = min(times), statistics.median(times)
        print(f"{kind:24s} {least * 1e9:8.1f} ns  {1e-6 / least:7.1f} M/s per core, median {median * 1e9:8.1f} ns")
    if not asked.word:
        scaling(machine, memory)


def scaling(machine: Machine, memory) -> None:
    """Eight workgroups on one thread and on two: by the clock, which needs two idle cores, and by CPU time, which does not:
    twice the CPU time of one thread over that of two, so lost is what the second thread adds in work and waiting."""
    module = load(machine, program(KINDS["v_fma_f32"]), lds=4096)
    runs = {threads: [measure(machine, module, memory, threads, 8) for _ in range(5)] for threads in (1, 2)}
    cpu, wall = ({t: min(r[i] for r in found) for t, found in runs.items()} for i in (0, 1))
    print(f"two threads: {wall[1] / wall[2]:.2f}x by the clock, {2 * cpu[1] / cpu[2]:.2f}x by CPU time")


if __name__ == "__main__":
    main()
