"""MXFP4 matrix product (gfx950), the weight preshuffled.

What the host code of AITER calls bias, alpha and beta is in the argument block, and no kernel reads it.
"""

from __future__ import annotations

from collections.abc import Iterable

import jax

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.gemm.rules import REACH, ceil_div, check_reach, tuned_row
from jax_aiter.kernels.asm.registry import Selected, forced, listed, need, op
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import Kernel, named
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.provider import Call, Program
from jax_aiter.ops.gemm import e8m0_shuffle

TABLE = "f4gemm/f4gemm_bf16_per1x32Fp4.csv"
TUNED = "*a4w4_blockscale_tuned_gemm*.csv"
SOURCE = "csrc/py_itfs_cu/asm_gemm_a4w4.cu gemm_a4w4_asm, aiter/ops/gemm_op_a4w4.py gemm_a4w4"
ARGUMENTS = struct(
    "f4gemm",
    SOURCE,
    "ptr D bfloat16 [M, N]",
    "ptr C not read",
    "ptr A fp4 [M, K]",
    "ptr B fp4 [N, K], preshuffled",
    "fp32 alpha not read",
    "fp32 beta not read",
    "u32 stride_D0 not read",
    "u32 stride_D1 not read",
    "u32 stride_C0 elements between rows of D",
    "u32 stride_C1 not read",
    "u32 stride_A0 elements between rows",
    "u32 stride_A1 not read",
    "u32 stride_B0 elements between rows",
    "u32 stride_B1 not read",
    "u32 M",
    "u32 N",
    "u32 K",
    "ptr ScaleA e8m0 [M up to 256s, K/32 up to 8s], shuffled",
    "ptr ScaleB e8m0 [N up to 256s, K/32 up to 8s], shuffled",
    "u32 stride_ScaleA0 bytes between rows",
    "u32 stride_ScaleA1 not read",
    "u32 stride_ScaleB0 bytes between rows",
    "u32 stride_ScaleB1 not read",
    "i32 log2_k_split",
)
UNREAD = ("stride_D0", "stride_D1", "stride_C1", "stride_A1", "stride_B1", "stride_ScaleA1", "stride_ScaleB1")
#: Elements of K in one matrix instruction, and what the parts of a split K are multiples of.
STEP, TILE_K = 128, 256
#: Tiles of the kernels that take no part of one along N.
WHOLE = ((128, 512), (192, 256), (224, 256), (256, 256))


def never(row: Kernel) -> str | None:
    """Why a row runs no call."""
    if row["bpreshuffle"]:
        return None
    return "reads a weight in plain order; on the virtual gfx950 it gives each 16th row in place of the 15 after it, in every 128"


@op("gemm_a4w4_bpreshuffle", source=SOURCE, tables=(TABLE,), never=never)
def select(call: Call) -> Selected:
    a, b, out = call.operands["A"], call.operands["B"], call.results[0]
    (m, k), n = (a.shape[0], a.shape[1] * 2), b.shape[0]
    table = listed(call, TABLE)
    need(out.dtype.name == "bfloat16", f"out_dtype = {out.dtype.name}; the kernels write bfloat16")
    need("bias" not in call.operands, "bias is given; the kernels read none, though AITER's host code passes it on")
    need(k % STEP == 0, f"K = {k}; the kernels take multiples of {STEP}")
    need(n % 32 == 0, f"N = {n}; the kernels take multiples of 32")
    check_reach(A=m * k // 2, B=n * k // 2, y=m * n * 2)
    rows = [r for r in table if never(r) is None and takes(r, n)]
    asked, tuned = call.params["splitK"], tuned_row(call, TUNED, m, n, k)
    passes_over = None
    if tuned is not None and not str(tuned["kernelName"]).startswith("_ZN"):
        passes_over = f"AITER's tuned row for M = {tuned['M']} takes CK"
    row, rule, parts = forced(call, rows), "the caller's kernel=", asked or 1
    if row is None and tuned is not None and passes_over is None:
        row, rule = named(rows, str(tuned["kernelName"])), f"AITER's tuned row for M = {tuned['M']}"
        parts = asked or (1 << max(int(tuned["splitK"]), 0) if row is not None and row["splitK"] else 1)
    if row is None:
        row, parts = heuristic(rows, m, n, asked or 1, compute_units(call.target))
        rule = "AITER's heuristic: fewest rounds over the compute units, then fewest idle ones or the better tile"
    need(parts == 1 or row["splitK"] == 1, f"splitK = {parts}; {row.symbol} does not split K")
    need(k % parts == 0, f"splitK = {parts}; K = {k} is no multiple of it")
    part = ceil_div(k // parts, TILE_K) * TILE_K
    grid = (ceil_div(n, row.number("tile_n")), ceil_div(m, row.number("tile_m")), ceil_div(k, part))

    def build():
        groups = k // 32
        structs = {
            "A_scale": jax.ShapeDtypeStruct(e8m0_shuffle.padded(m, groups), "uint8"),
            "B_scale": jax.ShapeDtypeStruct(e8m0_shuffle.padded(n, groups), "uint8"),
        }
        assert call.target.arch is not None
        writer = PlanWriter(call.op, call.target.arch, {**call.operands, **structs}, {"y": out})
        if parts > 1:  # they are added to what is there
            writer.clear("y")
        pointers = {"D": "y", "A": "A", "B": "B", "ScaleA": "A_scale", "ScaleB": "B_scale"}
        writer.kernel(
            row,
            grid,
            256,
            ARGUMENTS,
            **{member: writer.pointer(name) for member, name in pointers.items()},
            **dict.fromkeys(UNREAD, 0),
            C=None,
            alpha=1.0,
            beta=0.0,
            stride_C0=n,
            stride_A0=k,
            stride_B0=k,
            M=m,
            N=n,
            K=k,
            stride_ScaleA0=structs["A_scale"].shape[1],
            stride_ScaleB0=structs["B_scale"].shape[1],
            log2_k_split=parts.bit_length() - 1,
        )
        plan = writer.build()

        def run(operands):
            ready = {**operands, "A_scale": e8m0_shuffle.shuffled(operands["A_scale"])}
            if not call.params["shuffled_scale"]:
                ready["B_scale"] = e8m0_shuffle.shuffled(operands["B_scale"])
            return call_plan(plan, *ready.values(), result_shape_dtypes=call.results)

        return Program((plan,), run)

    return Selected(row, grid, rule, build, passes_over)


def takes(row: Kernel, n: int) -> bool:
    """Four kernels store whole tiles of columns; of a cut one they miss most rows. AITER's heuristic knows it of one of them."""
    tile = row.number("tile_m"), row.number("tile_n")
    return tile not in WHOLE or n % tile[1] == 0


def heuristic(rows: Iterable[Kernel], m: int, n: int, parts: int, units: int) -> tuple[Kernel, int]:
    """`get_heuristic_kernel` of asm_gemm_a4w4.cu for a given split, from the table's top where AITER walks an unordered map.

    AITER's Python gives it splitK = 0, one part, where no tuned row says otherwise.
    """
    best, rounds, idle, ratio = None, REACH, units, 1
    for row in rows:
        if parts > 1 and not row["splitK"]:
            continue
        tile_m, tile_n = row.number("tile_m"), row.number("tile_n")
        groups = ceil_div(m, tile_m) * ceil_div(n, tile_n) * parts
        its = ceil_div(groups, units)
        its_idle, its_ratio = its * units - groups, tile_m * tile_n // (tile_m + tile_n)
        if its < rounds or (its == rounds and (its_idle < idle or its_ratio > ratio)):
            best, rounds, idle, ratio = row, its, its_idle, its_ratio
    need(best is not None, f"splitK = {parts}; no kernel of AITER's for this call splits K")
    assert best is not None
    return best, parts
