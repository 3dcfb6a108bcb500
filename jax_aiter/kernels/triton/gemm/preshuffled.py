"""The block-scaled product with a weight in the order that kernels load, on AITER's Triton kernel."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.gemm.configured import configured
from jax_aiter.kernels.triton.gemm.gemm import refuse_8, refuse_int8
from jax_aiter.kernels.triton.gemm.spaces import product
from jax_aiter.kernels.triton.rules import first

BLOCK = 128


@op(
    "gemm_a8w8_blockscale_bpreshuffle",
    source="aiter.ops.triton.gemm.basic.gemm_a8w8_blockscale.gemm_a8w8_blockscale_preshuffle",
    refuse=lambda spec: first(refuse_8(spec), refuse_int8(spec)),
    needs=("gemm.basic.gemm_a8w8_blockscale:gemm_a8w8_blockscale_preshuffle(is_x_scale_tranposed)",),
    space=product("xq", "wq", depth=BLOCK, stages=2),  # AITER's wrapper takes no more of gfx950's, as which Hopper is recorded
)
def gemm_a8w8_blockscale_preshuffle(ctx):
    from aiter.ops.triton.gemm.basic.gemm_a8w8_blockscale import gemm_a8w8_blockscale_preshuffle as kernel

    y, transposed = ctx.results[0], ctx.spec.params["transpose_scale"]
    (m, n), k = y.shape, ctx.spec["xq"].shape[1]
    config = configured(ctx, "gemm.basic.gemm_a8w8_blockscale", ctx.operand("xq"), shuffle=True, always=True)
    assert config is not None
    # The kernel takes a part of K for whole blocks of 128; AITER cuts K without asking, and then some columns count twice.
    blocks = k // BLOCK
    config["NUM_KSPLIT"] = max(d for d in range(1, min(config["NUM_KSPLIT"], blocks) + 1) if blocks % d == 0)
    config["BLOCK_SIZE_K"] = BLOCK
    scale = ctx.operand("x_scale").view(m, blocks)  # transposed, its storage is that of [K/128, M], and the kernel is told so
    operands = ctx.operand("xq"), ctx.operand("wq").view(n // 16, k * 16), scale, ctx.operand("w_scale")
    return kernel(*operands, dtype=y.dtype, y=y, config=config, is_x_scale_tranposed=transposed)
