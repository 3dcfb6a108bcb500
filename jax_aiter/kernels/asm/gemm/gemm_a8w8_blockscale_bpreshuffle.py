"""fp8 matrix product with one scale per 1x128 block of activations and 128x128 block of weights, the weight preshuffled."""

from __future__ import annotations

import dataclasses

import jax

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.gemm import flatmm
from jax_aiter.kernels.asm.gemm.rules import TILE_K, ceil_div, check_reach, check_split, fewest_rounds, tuned_row
from jax_aiter.kernels.asm.registry import Selected, forced, listed, need, op
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import named
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.provider import Call, Program

TABLE = "fp8gemm_blockscale/fp8gemm_bf16_blockscale.csv"
TUNED = "*a8w8_blockscale_bpreshuffle_tuned_gemm*.csv"
SOURCE = "csrc/py_itfs_cu/asm_a8w8_blockscale_bpreshuffle.cu gemm_a8w8_blockscale_bpreshuffle_asm, aiter/ops/gemm_op_a8w8.py"
ARGUMENTS = struct(
    "fp8gemm_blockscale",
    SOURCE,
    "ptr C bfloat16 [M, N]",
    "ptr A fp8 [M, K]",
    "ptr B fp8 [N, K], preshuffled",
    "ptr a_scale float32 [K/128, M]",
    "ptr b_scale float32 [N/128, K/128]",
    "ptr bias float32 [N]",
    "u32 m M",
    "u32 n N",
    "u32 k K",
    "u32 lda bytes between rows",
    "u32 ldb bytes between rows",
    "u32 ldc bytes between rows",
    "u32 ks workgroups that share a tile",
    "u32 scale_m M",
    "u32 scale_n N/128",
    "u32 scale_k K/128",
)


@op("gemm_a8w8_blockscale_bpreshuffle", source=SOURCE, tables=(TABLE,), unlisted=flatmm.unlisted)
def select(call: Call) -> Selected:
    x, w, out = call.operands["xq"], call.operands["wq"], call.results[0]
    (m, k), n = x.shape, w.shape[0]
    need(x.dtype.name != "int8", "xq has dtype int8; AITER's hand-written kernels of this op take fp8")
    check_reach(xq=m * k, wq=n * k, y=m * n * 2)
    if out.dtype.name == "float16":
        return flatmm.select(call)
    need(out.dtype.name == "bfloat16", f"out_dtype = {out.dtype.name}; the kernels write bfloat16, one on gfx942 float16")
    need(n % 128 == 0, f"N = {n}; the kernels take multiples of 128")
    assert call.target.arch is not None
    rows = listed(call, TABLE)
    tuned, split = tuned_row(call, TUNED, m, n, k), call.params["splitK"]
    passes_over = "AITER has no tuned row for this shape and calls CK"
    if tuned is not None:
        passes_over = None if tuned["libtype"] == "asm" else f"AITER's tuned row for M = {tuned['M']} takes {tuned['libtype']}"
    row, rule = forced(call, rows), "the caller's kernel="
    if row is None and tuned is not None and passes_over is None:
        row, rule = named(rows, str(tuned["kernelName"])), f"AITER's tuned row for M = {tuned['M']}"
        need(row is not None, f"AITER's tuned row names {tuned['kernelName']}, which is not in its table")
        split = split or int(tuned["splitK"])
    if row is None:
        row = fewest_rounds(rows, m, n, compute_units(call.target))
        rule = "AITER's heuristic: fewest rounds over the compute units"
    split = split or 1
    check_split(k, split)
    grid = (n // row.number("tile_n") * split, ceil_div(m, row.number("tile_m")), 1)

    def build():
        # As the kernel reads it: one block of K after another.
        scales = {"x_scale": jax.ShapeDtypeStruct((k // TILE_K, m), "float32")}
        writer = PlanWriter.of(dataclasses.replace(call, operands={**call.operands, **scales}), ("y",))
        writer.temporary("bias", n * 4)
        writer.clear("bias")
        if split > 1:  # the parts are added to what is there
            writer.clear("y")
        writer.kernel(
            row,
            grid,
            256,
            ARGUMENTS,
            C=writer.pointer("y"),
            A=writer.pointer("xq"),
            B=writer.pointer("wq"),
            a_scale=writer.pointer("x_scale"),
            b_scale=writer.pointer("w_scale"),
            bias=writer.pointer("bias"),
            m=m,
            n=n,
            k=k,
            lda=k,
            ldb=k,
            ldc=n * 2,
            ks=split,
            scale_m=m,
            scale_n=n // 128,
            scale_k=k // TILE_K,
        )
        plan = writer.build()
        if call.params["transpose_scale"]:
            return plan

        def run(operands):
            ready = {**operands, "x_scale": operands["x_scale"].T}
            return call_plan(plan, *ready.values(), result_shape_dtypes=call.results)

        return Program((plan,), run)

    return Selected(row, grid, rule, build, passes_over, left_open=None if tuned else passes_over)
