"""The one block-scale kernel that writes float16 (gfx942)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jax_aiter.kernels.asm.gemm.rules import TILE_K, ceil_div
from jax_aiter.kernels.asm.registry import Selected, forced, need
from jax_aiter.kernels.asm.structs import struct
from jax_aiter.kernels.asm.tables import Kernel, loose
from jax_aiter.kernels.asm.writer import PlanWriter
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.provider import Call, Program

NAME = "flatmm_uk_gfx9_f16f8_128x256x128_1x4x1_16x16x32"
TILE_M, TILE_N = 128, 256
ARGUMENTS = struct(
    "flatmm",
    "csrc/py_itfs_cu/asm_flatmm_a8w8_blockscale.cu flatmm_a8w8_blockscale_asm",
    "ptr a_ptr fp8 [M, K]",
    "ptr b_ptr fp8 [N, K], preshuffled",
    "ptr c_ptr null",
    "ptr sa_ptr float32 [K/128, M], readable to the end of its last tile of rows",
    "ptr sb_ptr float32 [K/128, N/128]",
    "ptr d_ptr null",
    "ptr d_f16_ptr float16 [M, N]",
    "ptr dbg_int_ptr null",
    "ptr dbg_fp8_ptr null",
    "ptr dbg_f16_ptr null",
    "ptr dbg_fp32_ptr null",
    "i32 hidden_size K",
    "i32 intermediate_size N",
    "i32 num_tokens M",
    "i32 num_experts 0",
    "i32 topk 0",
    "i32 stride_token 0",
    slot=None,
)


def unlisted(arch: str) -> tuple[Kernel, ...]:
    row = loose(arch, f"{NAME}.co", NAME)
    return () if row is None else (row,)


def select(call: Call) -> Selected:
    (m, k), n = call.operands["xq"].shape, call.operands["wq"].shape[0]
    assert call.target.arch is not None
    rows = unlisted(call.target.arch)
    need(bool(rows), f"out_dtype = float16; this release of AITER has no hand-written kernel that writes it on {call.target.arch}")
    (row,) = rows
    forced(call, rows)
    need(call.params["splitK"] in (None, 1), f"splitK = {call.params['splitK']}; the float16 kernel does not split K")
    need(n % TILE_N == 0, f"N = {n}; the float16 kernel takes multiples of {TILE_N}")
    # It loads activations two blocks of K ahead, past the matrix's end where the number of blocks is odd.
    need(k == TILE_K or k % (2 * TILE_K) == 0, f"K = {k}; the float16 kernel takes 128 and multiples of 256")
    grid = (n // TILE_N, ceil_div(m, TILE_M), 1)
    blocks = k // TILE_K

    def build():
        scales = {
            "x_scale": jax.ShapeDtypeStruct((blocks * m + TILE_M,), "float32"),
            "w_scale": jax.ShapeDtypeStruct((blocks, n // 128), "float32"),
        }
        assert call.target.arch is not None
        writer = PlanWriter(call.op, call.target.arch, {**call.operands, **scales}, {"y": call.results[0]})
        writer.kernel(
            row,
            grid,
            256,
            ARGUMENTS,
            a_ptr=writer.pointer("xq"),
            b_ptr=writer.pointer("wq"),
            c_ptr=None,
            sa_ptr=writer.pointer("x_scale"),
            sb_ptr=writer.pointer("w_scale"),
            d_ptr=None,
            d_f16_ptr=writer.pointer("y"),
            dbg_int_ptr=None,
            dbg_fp8_ptr=None,
            dbg_f16_ptr=None,
            dbg_fp32_ptr=None,
            hidden_size=k,
            intermediate_size=n,
            num_tokens=m,
            num_experts=0,
            topk=0,
            stride_token=0,
        )
        plan = writer.build()

        def run(operands):
            x_scale = operands["x_scale"] if call.params["transpose_scale"] else operands["x_scale"].T
            padded = jnp.pad(x_scale.reshape(-1), (0, TILE_M))
            ready = {**operands, "x_scale": padded, "w_scale": operands["w_scale"].T}
            return call_plan(plan, *ready.values(), result_shape_dtypes=call.results)

        return Program((plan,), run)

    return Selected(row, grid, "the only kernel that writes float16", build, "AITER's own dispatch calls CK for float16")
