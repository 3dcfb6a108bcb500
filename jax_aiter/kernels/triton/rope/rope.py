"""Rotary position embedding from a table of cosines and sines."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.launched import launched
from jax_aiter.kernels.triton.rules import FLOAT, GRID, dtype_in, first, fits_int32, param_is, power_of_two
from jax_aiter.kernels.triton.tiles.rows import rows as row_tiles


def _refuse(spec: CallSpec) -> str | None:
    head, columns = spec["x"].shape[-1], spec["cos"].shape[1]
    rotary = columns * (2 if spec.params["reuse_freqs_front_part"] else 1)
    rule = None
    if head & (head - 1):
        rule = f"x has heads of {head} elements; AITER's Triton kernel needs a power of two"
    elif rotary not in (head, head // 2):
        rule = f"rotary dimension = {rotary}; AITER's Triton kernel rotates the whole head ({head}) or half of it"
    elif spec["x"].shape[-2] > GRID:
        rule = f"x has {spec['x'].shape[-2]} heads; AITER's Triton kernel needs a grid dimension per head, at most {GRID}"
    return first(dtype_in(spec, "x", FLOAT), dtype_in(spec, "cos", FLOAT), rule, fits_int32(spec, "x"))


@op(
    "rope",
    source="aiter.ops.triton.rope.rope.rope_cached_positions_fwd",
    refuse=_refuse,
    needs=("rope.rope:rope_cached_positions_fwd",),
    space=row_tiles,
)
@launched
def rope(ctx):
    from aiter.ops.triton.rope.rope import RotateStyle, rope_cached_positions_fwd

    from jax_aiter.kernels.triton.worker.own import glue

    x, cos, sin = (ctx.operand(name) for name in ("x", "cos", "sin"))
    params = ctx.spec.params
    rows, columns = cos.shape
    positions = glue.clip(ctx.operand("positions"), rows - 1)
    return rope_cached_positions_fwd(
        x.view(-1, 1, *x.shape[-2:]),
        cos.view(rows, 1, 1, columns),
        sin.view(rows, 1, 1, columns),
        positions.view(-1, 1),
        RotateStyle.NEOX if params["rotate_style"] == "neox" else RotateStyle.GPTJ,
        params["reuse_freqs_front_part"],
        params["nope_first"],
    )


def _refuse_two(spec: CallSpec) -> str | None:
    (heads, size), kv_heads = spec["q"].shape[-2:], spec["k"].shape[-2]
    rotary = spec["cos"].shape[1] * (2 if spec.params["reuse_freqs_front_part"] else 1)
    rule = None
    if rotary not in (size, size // 2):
        rule = f"rotary dimension = {rotary}; AITER's Triton kernel rotates the whole head ({size}) or half of it"
    elif heads % kv_heads:
        rule = f"q has {heads} heads and k {kv_heads}; AITER's Triton kernel needs a multiple"
    elif heads == kv_heads and heads & (heads - 1):
        rule = f"q and k have {heads} heads; AITER's Triton kernel writes past the last unless that is a power of two"
    elif heads > GRID:
        rule = f"q has {heads} heads; AITER's Triton kernel needs a grid dimension per head, at most {GRID}"
    return first(
        dtype_in(spec, "q", FLOAT),
        dtype_in(spec, "cos", ("float32",)),
        power_of_two("the size of a head", size),
        param_is(spec, "rotate_style", "neox", "gptj"),
        rule,
        fits_int32(spec, "q", "k", "cos"),
    )


@op(
    "rope_2c",
    source="aiter.ops.triton.rope.rope.rope_cached_thd_positions_2c_fwd",
    refuse=_refuse_two,
    needs=("rope.rope:rope_cached_thd_positions_2c_fwd",),
    space=lambda spec: row_tiles(spec, "q"),
)
@launched
def rope_2c(ctx):
    from aiter.ops.triton.rope.rope import RotateStyle, rope_cached_thd_positions_2c_fwd

    from jax_aiter.kernels.triton.worker.own import glue

    q, k, cos, sin = (ctx.operand(name) for name in ("q", "k", "cos", "sin"))
    params = ctx.spec.params
    return rope_cached_thd_positions_2c_fwd(
        q.view(-1, *q.shape[-2:]),
        k.view(-1, *k.shape[-2:]),
        cos,
        sin,
        glue.clip(ctx.operand("positions"), cos.shape[0] - 1).view(-1),
        RotateStyle.NEOX if params["rotate_style"] == "neox" else RotateStyle.GPTJ,
        params["reuse_freqs_front_part"],
        params["nope_first"],
    )
