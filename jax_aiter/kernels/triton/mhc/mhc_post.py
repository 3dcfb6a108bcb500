"""A layer's result written back to its streams: a kernel that came after release 0.1.7.

Its relatives in front of a layer multiply by `fn` in 16 bits, where ours has it in float32: `adapters.OTHER_CONTRACT`.
"""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, first, fits_int32, power_of_two

SOURCE = "fusions.mhc:mhc_post"
MOST = 16  # streams: a program keeps as many rows of as many weights for each of its tokens


def _refuse(spec: CallSpec) -> str | None:
    streams = spec["residual"].shape[-2]
    many = f"residual has {streams} streams; AITER's Triton kernel unrolls them, at most {MOST}" if streams > MOST else None
    return first(dtype_in(spec, "x", FLOAT), power_of_two("streams of residual", streams), many, fits_int32(spec, "residual"))


@op("mhc_post", source="aiter.ops.triton.fusions.mhc.mhc_post", needs=(SOURCE,), refuse=_refuse)
def mhc_post(ctx):
    """AITER's kernel and configuration: its wrapper asks its arrays whether they are on a GPU."""
    import triton
    from aiter.ops.triton._triton_kernels.fusions.mhc import _mhc_post_kernel
    from aiter.ops.triton.utils.mhc_config_utils import get_mhc_post_config

    streams, width = ctx.results[0].shape[-2:]
    x, residual = ctx.operand("x").view(-1, width), ctx.operand("residual").view(-1, streams, width)
    mixes = ctx.operand("post_layer_mix").view(-1, streams), ctx.operand("comb_res_mix").view(-1, streams, streams)
    out, tokens = ctx.results[0].view(-1, streams, width), len(x)
    config = ctx.tiled(get_mhc_post_config(tokens, width))
    config["BLOCK_C"] = min(config["BLOCK_C"], triton.next_power_of_2(width))
    strides = (stride for array in (x, residual, out, *mixes) for stride in array.stride())
    grid = (triton.cdiv(tokens, config["BLOCK_M"]),)
    _mhc_post_kernel[grid](out, x, residual, *mixes, tokens, width, *strides, n=streams, **config)
    return ctx.results
