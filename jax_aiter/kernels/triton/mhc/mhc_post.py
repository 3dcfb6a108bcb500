"""A layer's result written back to its streams: a kernel that came after release 0.1.7.

Its relatives in front of a layer multiply by `fn` in 16 bits, where ours has it in float32: `adapters.OTHER_CONTRACT`.
"""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.core.arch import COMPUTE_UNITS
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, first, fits_int32, next_power_of_2, power_of_two

SOURCE = "fusions.mhc:mhc_post"
PROGRAMS, LEAST = 4, 128  # that each compute unit should have; units of a device that is not listed
MOST = 16  # streams: a program keeps as many rows of as many weights for each of its tokens


def _refuse(spec: CallSpec) -> str | None:
    streams = spec["residual"].shape[-2]
    many = f"residual has {streams} streams; AITER's Triton kernel unrolls them, at most {MOST}" if streams > MOST else None
    return first(dtype_in(spec, "x", FLOAT), power_of_two("streams of residual", streams), many, fits_int32(spec, "residual"))


def block(tokens: int, arch: str) -> int:
    """Tokens of a program that leave several for each compute unit. AITER has 64 on gfx942, which one after the other takes
    through all columns: 64 tokens of 7,168 columns are one program, and estimated to take 700 times as long as its HIP kernel."""
    return next_power_of_2(max(tokens // (PROGRAMS * COMPUTE_UNITS.get(arch, LEAST)), 1))


@op("mhc_post", source="aiter.ops.triton.fusions.mhc.mhc_post", needs=(SOURCE,), refuse=_refuse)
def mhc_post(ctx):
    """AITER's kernel and configuration, but for the tokens of a program: its wrapper asks its arrays whether they are on a GPU."""
    import triton
    from aiter.ops.triton._triton_kernels.fusions.mhc import _mhc_post_kernel
    from aiter.ops.triton.utils.mhc_config_utils import get_mhc_post_config

    streams, width = ctx.results[0].shape[-2:]
    x, residual = ctx.operand("x").view(-1, width), ctx.operand("residual").view(-1, streams, width)
    mixes = ctx.operand("post_layer_mix").view(-1, streams), ctx.operand("comb_res_mix").view(-1, streams, streams)
    out, tokens = ctx.results[0].view(-1, streams, width), len(x)
    config = get_mhc_post_config(tokens, width)
    config = ctx.tiled({**config, "BLOCK_M": min(config["BLOCK_M"], block(tokens, ctx.spec.arch))})
    config["BLOCK_C"] = min(config["BLOCK_C"], triton.next_power_of_2(width))
    strides = (stride for array in (x, residual, out, *mixes) for stride in array.stride())
    grid = (triton.cdiv(tokens, config["BLOCK_M"]),)
    _mhc_post_kernel[grid](out, x, residual, *mixes, tokens, width, *strides, n=streams, **config)
    return ctx.results
