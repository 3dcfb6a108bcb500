"""The bfloat16 kernels of releases up to 0.1.7.post2: float32 output, plain weights, no bias.

The parts of a split K are added up in the output by atomics, so AITER clears it first.
"""

from __future__ import annotations

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.gemm.rules import REACH, ceil_div
from jax_aiter.kernels.asm.registry import Selected, forced, need
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import Kernel, kernels, named
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.provider import Call

TABLE = "bf16gemm/bf16gemm_outf32.csv"
ARGUMENTS = struct(
    "bf16gemm_outf32",
    "csrc/py_itfs_cu/asm_gemm_a16w16.cu gemm_a16w16_asm of 0.1.7.post2",
    "ptr D float32 [M, N]",
    "ptr C null",
    "ptr A bfloat16 [M, K]",
    "ptr B bfloat16 [N, K]",
    "fp32 alpha 1",
    "fp32 beta 0",
    "u32 stride_D0 not read",
    "u32 stride_D1 not read",
    "u32 stride_C0 bytes between rows of D",
    "u32 stride_C1 not read",
    "u32 stride_A0 bytes between rows",
    "u32 stride_A1 not read",
    "u32 stride_B0 bytes between rows",
    "u32 stride_B1 not read",
    "u32 M",
    "u32 N",
    "u32 K",
    "u32 splitk workgroups that share a tile",
)
MAX_SPLIT = 64
STEP = 64


def is_all(arch: str) -> bool:
    """Whether AITER's release has these kernels."""
    return bool(kernels(arch, TABLE))


def select(call: Call, tuned, passes_over: str | None) -> Selected:
    a, b, out = call.operands["a"], call.operands["b"], call.results[0]
    (m, k), n = a.shape, b.shape[0]
    assert call.target.arch is not None
    need(call.op == "gemm_a16w16", "this release of AITER has no kernels for a preshuffled weight; 0.1.9 has")
    need(out.dtype.name == "float32", f"out_dtype = {out.dtype.name}; this release of AITER has kernels that write float32")
    need("bias" not in call.operands, "bias is given; this release of AITER has kernels without; 0.1.9 has")
    rows = kernels(call.target.arch, TABLE)
    tiles = sorted({r.number("tileN") for r in rows})
    rows = [r for r in rows if n % r.number("tileN") == 0]
    need(bool(rows), f"N = {n}; the kernels take multiples of {' or '.join(map(str, tiles))}")
    units = compute_units(call.target)
    row, rule = forced(call, rows), "the caller's kernel="
    if row is None and tuned is not None and tuned["libtype"] == "asm":
        row = named(rows, str(tuned["kernelName"]))
        need(row is not None, f"AITER's tuned row names {tuned['kernelName']}, which does not take this call")
        rule = f"AITER's tuned row for M = {tuned['M']}"
    if row is None:
        row = heuristic(rows, m, n, k, units)
        rule = "AITER's heuristic: fewest rounds over the compute units, then fewest idle ones or fewest rows past M"
    if tuned is not None and rule.startswith("AITER's tuned"):
        split = max(1, min(int(tuned["splitK"]), most_splits(k)))
    else:
        split = split_of(row, m, n, k, units)
    grid = (n // row.number("tileN"), ceil_div(m, row.number("tileM")), split)

    def build():
        writer = PlanWriter.of(call, ("y",))
        if split > 1:
            writer.clear("y")
        unread = dict.fromkeys(("stride_D0", "stride_D1", "stride_C1", "stride_A1", "stride_B1"), 0)
        strides = {"stride_C0": n * 4, "stride_A0": k * 2, "stride_B0": k * 2}
        pointers = {"D": writer.pointer("y"), "C": None, "A": writer.pointer("a"), "B": writer.pointer("b")}
        numbers = {"alpha": 1.0, "beta": 0.0, "M": m, "N": n, "K": k, "splitk": split}
        writer.kernel(row, grid, 256, ARGUMENTS, **pointers, **strides, **unread, **numbers)
        return writer.build()

    return Selected(row, grid, rule, build, passes_over, left_open=None if tuned else passes_over)


def most_splits(k: int) -> int:
    return min(MAX_SPLIT, k // STEP)


def split_of(row: Kernel, m: int, n: int, k: int, units: int) -> int:
    """As many parts of K as leave no compute unit without a workgroup."""
    groups = ceil_div(m, row.number("tileM")) * (n // row.number("tileN"))
    return max(1, min(units // groups, most_splits(k))) if groups < units else 1


def heuristic(rows, m: int, n: int, k: int, units: int) -> Kernel:
    """`get_heuristic_kernel`, walking the table from the top where AITER walks an unordered map; its ratio is a whole number."""
    best, rounds, idle, ratio, past = None, REACH, units, 1, m
    for row in rows:
        tile_m, tile_n = row.number("tileM"), row.number("tileN")
        groups = ceil_div(m, tile_m) * (n // tile_n) * split_of(row, m, n, k, units)
        its = ceil_div(groups, units)
        its_idle, its_ratio, its_past = its * units - groups, tile_m * tile_n // (tile_m + tile_n), -m % tile_m
        better = its_idle < idle or its_past < past or (its_idle == idle and tile_m - m % tile_m == past and its_ratio > ratio)
        if its < rounds or (its == rounds and better):
            best, rounds, idle, ratio, past = row, its, its_idle, its_ratio, its_past
    assert best is not None
    return best
