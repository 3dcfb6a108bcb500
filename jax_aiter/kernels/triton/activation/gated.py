"""Gated activations."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.launched import launched
from jax_aiter.kernels.triton.rules import FLOAT, HALF, dtype_in, first, fits_int32
from jax_aiter.kernels.triton.tiles.rows import rows as row_tiles

WHOLE_ROWS = ("fusions.fused_clamp_act_mul:fused_clamp_act_mul",)


def _clamped(spec: CallSpec) -> bool:
    return float(spec.params.get("limit") or 0.0) > 0


def wide_rows(spec: CallSpec) -> str | None:
    """What AITER's kernel that holds a whole row in registers needs."""
    columns = spec["x"].shape[-1] // 2
    if columns % 128 or columns > 32768:
        return f"x has {columns} columns per half; AITER's Triton kernel needs a multiple of 128, at most 32768"
    return dtype_in(spec, "x", HALF)


@op(
    "silu_and_mul",
    source="aiter.ops.triton.activation.fused_silu_mul; with a limit: fusions.fused_clamp_act_mul",
    needs=lambda spec: WHOLE_ROWS if _clamped(spec) else ("activation:fused_silu_mul",),
    refuse=lambda spec: first(dtype_in(spec, "x", FLOAT), wide_rows(spec) if _clamped(spec) else None, fits_int32(spec, "x")),
    space=row_tiles,
)
@launched
def silu_and_mul(ctx):
    from aiter.ops.triton.activation import fused_silu_mul  # pyright: ignore[reportAttributeAccessIssue]  # not in every release

    return _whole_rows(ctx, "silu") if _clamped(ctx.spec) else fused_silu_mul(ctx.operand("x"), out=ctx.results[0])


@op(
    "gelu_and_mul",
    source="aiter.ops.triton.fusions.fused_clamp_act_mul.fused_clamp_act_mul",
    needs=WHOLE_ROWS,
    refuse=lambda spec: first(wide_rows(spec), fits_int32(spec, "x")),
    space=row_tiles,
)
@launched
def gelu_and_mul(ctx):
    return _whole_rows(ctx, "gelu")


@op(
    "gelu_tanh_and_mul",
    source="aiter.ops.triton.fusions.fused_clamp_act_mul.fused_clamp_act_mul",
    needs=WHOLE_ROWS,
    refuse=lambda spec: first(wide_rows(spec), fits_int32(spec, "x")),
    space=row_tiles,
)
@launched
def gelu_tanh_and_mul(ctx):
    return _whole_rows(ctx, "gelu_tanh")


def _whole_rows(ctx, activation: str):
    from aiter.ops.triton.fusions.fused_clamp_act_mul import fused_clamp_act_mul

    x, y = ctx.operand("x"), ctx.results[0]
    rows = x.numel() // x.shape[-1]
    limit = float(ctx.spec.params.get("limit") or 0.0)
    fused_clamp_act_mul(x.view(rows, -1), out=y.view(rows, -1), activation=activation, swiglu_limit=limit)
    return y
