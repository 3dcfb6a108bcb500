"""bfloat16 matrix product.

The parts of a split K are added up in the output, which the kernel clears itself while the others wait at semaphores. They come in
no fixed order.
"""

from __future__ import annotations

from collections.abc import Iterable

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.gemm import outf32
from jax_aiter.kernels.asm.gemm.rules import REACH, ceil_div, check_reach, tuned_row
from jax_aiter.kernels.asm.registry import Selected, forced, need, op
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import Kernel, kernels, named
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.provider import Call

TABLE = "bf16gemm/bf16gemm_fp32bf16.csv"
TUNED = "*bf16_tuned_gemm*.csv"
SOURCE = "csrc/py_itfs_cu/asm_gemm_a16w16.cu gemm_a16w16_asm, aiter/tuned_gemm.py gemm_a16w16"
ARGUMENTS = struct(
    "bf16gemm",
    SOURCE,
    "ptr D bfloat16 or float32 [M, N]",
    "ptr C null",
    "ptr A bfloat16 [M, K]",
    "ptr B bfloat16 [N, K], preshuffled or not",
    "fp32 alpha 1",
    "fp32 beta 0",
    "u32 stride_D0 bytes between rows",
    "u32 stride_D1 0",
    "u32 stride_C0 as D",
    "u32 stride_C1 0",
    "u32 stride_A0 bytes between rows",
    "u32 stride_A1 0",
    "u32 stride_B0 bytes between rows",
    "u32 stride_B1 0",
    "u32 M",
    "u32 N",
    "u32 K",
    "u32 splitk workgroups that share a tile",
    "u32 is_out_b16 1 if D is bfloat16",
    "ptr Bias bfloat16 [N] or null",
    "u32 add_bias 0 or 1",
    "ptr semaphore uint32 [16, 64], all 0, or null",
)
#: What AITER allocates, and the most tiles that may be split.
SEMAPHORES = 16 * 64
#: The kernels load the first K steps of 64 ahead without looking whether the row has so many.
LEAST_K = 192
MAX_SPLIT = 16


#: From here on the kernels order the parts of a split K themselves, by semaphores; before, AITER clears the output.
SEMAPHORES_SINCE = "0.1.9"


def never(row: Kernel) -> str | None:
    """Why a row runs no call."""
    if row.table == TABLE and not row.since(SEMAPHORES_SINCE):
        return f"is of a release before {SEMAPHORES_SINCE}, when these kernels had no semaphores"
    return None


@op("gemm_a16w16", source=SOURCE, tables=(TABLE, outf32.TABLE), never=never)
@op("gemm_a16w16_bpreshuffle", source=SOURCE, tables=(TABLE,), never=never)
def select(call: Call) -> Selected:
    a, b, out = call.operands["a"], call.operands["b"], call.results[0]
    bias, shuffled = call.operands.get("bias"), call.op == "gemm_a16w16_bpreshuffle"
    (m, k), n = a.shape, b.shape[0]
    need(a.dtype.name == "bfloat16", f"a has dtype {a.dtype.name}; the kernels take bfloat16")
    need(out.dtype.name in ("bfloat16", "float32"), f"out_dtype = {out.dtype.name}; the kernels write bfloat16 or float32")
    need(bias is None or bias.dtype.name == "bfloat16", f"bias has dtype {bias and bias.dtype.name}; the kernels read bfloat16")
    need(k % 64 == 0 and k >= LEAST_K, f"K = {k}; the kernels take multiples of 64 from {LEAST_K} on")
    check_reach(a=m * k * 2, b=n * k * 2, y=m * n * out.dtype.itemsize)
    assert call.target.arch is not None
    tuned = _tuned(call, m, n, k)
    passes_over = _passes_over(call, tuned)
    if outf32.is_all(call.target.arch):
        return outf32.select(call, tuned, passes_over)
    listed = [r for r in kernels(call.target.arch, TABLE) if never(r) is None]
    need(bool(listed), f"this release of AITER has no bfloat16 kernels of {SEMAPHORES_SINCE} or later for {call.target.arch}")
    rows = [r for r in listed if r["bPreshuffle"] == shuffled and (bias is None or r["bias"] == 1)]
    tiles = sorted({r.number("tileN") for r in rows})
    rows = [r for r in rows if n % r.number("tileN") == 0]
    need(bool(rows), f"N = {n}; the kernels take multiples of {' or '.join(map(str, tiles))}")

    row, rule = forced(call, rows), "the caller's kernel="
    if row is not None:
        split = split_of(row, m, n, k, compute_units(call.target))
    elif tuned is not None and tuned["libtype"] == "asm":
        row = named(rows, str(tuned["kernelName"]))
        need(row is not None, f"AITER's tuned row names {tuned['kernelName']}, which does not take this call")
        assert row is not None
        split = min(int(tuned["splitK"]), MAX_SPLIT, k // row.number("subK"))
        need((split > 1) == (row["splitK"] == 1), f"AITER's tuned row has splitK = {split} for {row.symbol}, which does not fit it")
        split, rule = max(split, 1), f"AITER's tuned row for M = {tuned['M']}"
    else:
        row, split = heuristic(rows, m, n, k, compute_units(call.target))
        rule = "AITER's heuristic: fewest rounds over the compute units, then fewest idle ones or fewest rows past M"
    grid = (n // row.number("tileN"), ceil_div(m, row.number("tileM")), split)
    groups = grid[0] * grid[1]
    need(split == 1 or groups <= SEMAPHORES, f"{row.symbol} has {groups} tiles; split K takes at most {SEMAPHORES}")

    def build():
        writer = PlanWriter.of(call, ("y",))
        if split > 1:
            writer.temporary("semaphore", SEMAPHORES * 4)
            writer.clear("semaphore")
        stride = n * out.dtype.itemsize
        writer.kernel(
            row,
            grid,
            256,
            ARGUMENTS,
            D=writer.pointer("y"),
            C=None,
            A=writer.pointer("a"),
            B=writer.pointer("b"),
            alpha=1.0,
            beta=0.0,
            stride_D0=stride,
            stride_D1=0,
            stride_C0=stride,
            stride_C1=0,
            stride_A0=k * 2,
            stride_A1=0,
            stride_B0=k * 2,
            stride_B1=0,
            M=m,
            N=n,
            K=k,
            splitk=split,
            is_out_b16=int(out.dtype.itemsize == 2),
            Bias=writer.pointer("bias"),
            add_bias=int(bias is not None),
            semaphore=writer.pointer("semaphore"),
        )
        return writer.build()

    return Selected(row, grid, rule, build, passes_over, left_open=None if tuned else passes_over)


def split_of(row: Kernel, m: int, n: int, k: int, units: int) -> int:
    """As many parts of K as leave no compute unit without a workgroup, at least 2 if the kernel splits at all."""
    steps = k // row.number("subK")
    if row["splitK"] != 1 or steps < 2:
        return 1
    groups = ceil_div(m, row.number("tileM")) * (n // row.number("tileN"))
    return max(2, min(units // groups, MAX_SPLIT, steps))


def heuristic(rows: Iterable[Kernel], m: int, n: int, k: int, units: int) -> tuple[Kernel, int]:
    """`get_heuristic_kernel` of asm_gemm_a16w16.cu, walking the table from the top where AITER walks an unordered map.

    Of kernels that split K, those with more tiles than semaphores are left out: AITER may choose one and then fails.
    """
    best, rounds, idle, ratio, past = None, REACH, units, 1.0, m
    for row in rows:
        tile_m, tile_n = row.number("tileM"), row.number("tileN")
        split = split_of(row, m, n, k, units)
        tiles = ceil_div(m, tile_m) * (n // tile_n)
        if split > 1 and tiles > SEMAPHORES:
            continue
        its = ceil_div(tiles * split, units)
        its_idle, its_ratio = its * units - tiles * split, tile_m * tile_n / (tile_m + tile_n)
        its_past = -m % tile_m
        # AITER compares the rows past M as tile_m - m % tile_m here, which a multiple never equals.
        same_past = tile_m - m % tile_m == past
        better = its_idle < idle or its_past < past or (its_idle == idle and same_past and its_ratio > ratio)
        if its < rounds or (its == rounds and better):
            best, rounds, idle, ratio, past = (row, split), its, its_idle, its_ratio, its_past
    need(best is not None, f"[{m}, {n}] is more tiles than the {SEMAPHORES} that kernels splitting K take")
    assert best is not None
    return best


def _tuned(call: Call, m: int, n: int, k: int):
    names = {"bfloat16": "torch.bfloat16", "float32": "torch.float32"}
    return tuned_row(
        call,
        TUNED,
        m,
        n,
        k,
        bias=str("bias" in call.operands),
        dtype="torch.bfloat16",
        outdtype=names[call.results[0].dtype.name],
        scaleAB="False",
        bpreshuffle=str(call.op == "gemm_a16w16_bpreshuffle"),
    )


def _passes_over(call: Call, tuned) -> str | None:
    if tuned is not None:
        return None if tuned["libtype"] == "asm" else f"AITER's tuned row for M = {tuned['M']} takes {tuned['libtype']}"
    if call.op == "gemm_a16w16_bpreshuffle" and call.target.arch != "gfx942":
        return None
    return "AITER has no tuned row for this shape and calls a BLAS library"
