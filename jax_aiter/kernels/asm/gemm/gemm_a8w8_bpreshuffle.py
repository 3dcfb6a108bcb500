"""int8 matrix product with a scale per token and per output feature, the weight preshuffled."""

from __future__ import annotations

from pathlib import Path

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.gemm.rules import TILE_K, ceil_div, check_reach, check_split, fewest_rounds, tuned_row
from jax_aiter.kernels.asm.registry import Selected, forced, listed, need, op
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import Kernel, named
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.provider import Call

TABLE = "i8gemm/i8gemm_bf16_perTokenI8.csv"
TUNED = "*a8w8_bpreshuffle_tuned_gemm*.csv"
SOURCE = "csrc/py_itfs_cu/asm_gemm_a8w8.cu gemm_a8w8_asm, aiter/ops/gemm_op_a8w8.py gemm_a8w8_ASM"
MEMBERS = (
    "ptr c bfloat16 [M, N]",
    "ptr a int8 [M, K]",
    "ptr b int8 [N, K], preshuffled",
    "ptr sa float32 [M, 1]",
    "ptr sb float32 [N, 1]",
    "ptr bias float32 [N]",
    "u32 m M",
    "u32 n N",
    "u32 k K",
    "u32 lda bytes between rows",
    "u32 ldb bytes between rows",
    "u32 ldc bytes between rows",
    "u32 ks workgroups that share a tile",
)
ARGUMENTS = struct("i8gemm", SOURCE, *MEMBERS)
#: One kernel declares 256 bytes of arguments. AITER passes 208; it reads no more, but what it declares must be there.
#: It also overwrites shared memory that other waves read since the last barrier, some dozens of instructions later: right as long
#: as a workgroup's waves advance side by side, which they do (each has a SIMD to itself). AITER's tuned tables choose it.
LONG_KERNEL = "I8gemm_bf16_perTokenI8_BpreShuffle_112x256"
LONG_ARGUMENTS = struct("i8gemm_112x256", SOURCE, *MEMBERS, "ptr unread0 null", "ptr unread1 null", "ptr unread2 null")
UNREAD = {"unread0": None, "unread1": None, "unread2": None}


#: Older kernels read weights shuffled in tiles of 32x16, the op's are in tiles of 16x16.
SINCE = "0.1.12"


def never(row: Kernel) -> str | None:
    """Why a row runs no call."""
    return None if row.since(SINCE) else f"is of a release before {SINCE}, whose int8 kernels read weights in tiles of 32x16"


@op("gemm_a8w8_bpreshuffle", source=SOURCE, tables=(TABLE,), never=never)
def select(call: Call) -> Selected:
    x, w, out = call.operands["xq"], call.operands["wq"], call.results[0]
    bias, split = call.operands.get("bias"), call.params["splitK"]
    (m, k), n = x.shape, w.shape[0]
    need(x.dtype.name == "int8", f"xq has dtype {x.dtype.name}; AITER's hand-written kernels of this op take int8")
    need(out.dtype.name == "bfloat16", f"out_dtype = {out.dtype.name}; the kernels write bfloat16")
    need(bias is None or bias.dtype.name == "float32", f"bias has dtype {bias and bias.dtype.name}; the kernels read float32")
    need(k % TILE_K == 0, f"K = {k}; the kernels take multiples of {TILE_K}")
    check_reach(xq=m * k, wq=n * k, y=m * n * 2)
    assert call.target.arch is not None
    table = [r for r in listed(call, TABLE) if never(r) is None]
    need(bool(table), f"this release of AITER has no int8 kernels that read a weight as shuffle_weight makes it ({SINCE} has)")
    tiles = sorted({r.number("tile_n") for r in table})
    fitting = [r for r in table if n % r.number("tile_n") == 0]
    need(bool(fitting), f"N = {n}; the kernels take multiples of {' or '.join(map(str, tiles))}")
    tuned = tuned_row(call, TUNED, m, n, k, q_dtype_w="torch.int8")
    row, rule = forced(call, fitting), "the caller's kernel="
    if row is None and tuned is not None and tuned["libtype"] == "asm":
        row, rule = named(fitting, str(tuned["kernelName"])), f"AITER's tuned row for M = {tuned['M']}"
        split = split or (int(tuned["splitK"]) if row else None)
    if row is None:
        # AITER's heuristic takes kernels that can split K, even where it does not split.
        row = fewest_rounds((r for r in fitting if r["splitK"] == 1), m, n, compute_units(call.target))
        rule = "AITER's heuristic: fewest rounds over the compute units"
    split = split or 1
    need(split == 1 or row["splitK"] == 1, f"splitK = {split}; {row.symbol} does not split K")
    check_split(k, split)
    grid = (n // row.number("tile_n") * split, ceil_div(m, row.number("tile_m")), 1)

    def build():
        long = Path(row.path).stem == LONG_KERNEL
        writer = PlanWriter.of(call, ("y",))
        if bias is None:
            writer.temporary("bias", n * 4)
            writer.clear("bias")
        if split > 1:  # the parts are added to what is there
            writer.clear("y")
        writer.kernel(
            row,
            grid,
            256,
            LONG_ARGUMENTS if long else ARGUMENTS,
            c=writer.pointer("y"),
            a=writer.pointer("xq"),
            b=writer.pointer("wq"),
            sa=writer.pointer("x_scale"),
            sb=writer.pointer("w_scale"),
            bias=writer.pointer("bias"),
            m=m,
            n=n,
            k=k,
            lda=k,
            ldb=k,
            ldc=n * 2,
            ks=split,
            **(UNREAD if long else {}),
        )
        return writer.build()

    return Selected(row, grid, rule, build)
