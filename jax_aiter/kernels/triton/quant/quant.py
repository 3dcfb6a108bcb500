"""fp8 quantisation. scale = amax / largest value of the dtype; amax is at least AITER's floor of 1e-10."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.launched import launched
from jax_aiter.kernels.triton.rules import (
    FLOAT,
    absent,
    dtype_in,
    finds_scale,
    first,
    fits_int32,
    next_power_of_2,
    param_is,
    row_fits,
)
from jax_aiter.kernels.triton.tiles.rows import rows as row_tiles

#: smallest amax AITER's group quantisation assumes, so that an all-zero group has a scale.
AMAX_FLOOR = 1e-10
STATIC, DYNAMIC = (("quant.quant:static_per_tensor_quant_fp8_i8",), ("quant.quant:dynamic_per_tensor_quant_fp8_i8",))
GROUPS = ("quant.fused_fp8_quant:fused_flatten_fp8_group_quant",)


def _common(spec: CallSpec) -> str | None:
    out = spec.results[0].dtype
    if out != spec.fp8:
        what = "truncates instead of rounding for int8" if out == "int8" else f"computes in {spec.fp8} on {spec.arch}"
        return f"quant_dtype = {out}; AITER's Triton kernel {what}"
    columns = spec["x"].shape[-1] if spec["x"].ndim else 0
    return first(dtype_in(spec, "x", FLOAT), row_fits(columns, "x"), fits_int32(spec, "x"))


@op(
    "per_tensor_quant",
    source="aiter.ops.triton.quant.quant.dynamic_per_tensor_quant_fp8_i8, static_per_tensor_quant_fp8_i8",
    refuse=_common,
    needs=lambda spec: STATIC if spec.has("scale") else DYNAMIC,
    space=row_tiles,
    hides_nan=finds_scale,
)
@launched
def per_tensor_quant(ctx):
    return quantise_tensor(ctx.operand("x"), ctx.operand("scale"), *ctx.results)


def quantise_tensor(x, scale, xq, scale_out):
    """One scale for all of `x`: the given one, or found here (scale_out is the maximum over rows, so it starts low)."""
    import torch
    from aiter.ops.triton.quant.quant import dynamic_per_tensor_quant_fp8_i8, static_per_tensor_quant_fp8_i8

    rows, flat = x.view(-1, x.shape[-1]), xq.view(-1, x.shape[-1])
    if scale is not None:  # the conversion saturates: Triton 3.6 sets the mode for it on gfx942 and gfx950; infinities become NaN
        static_per_tensor_quant_fp8_i8(flat, rows, scale)
        return xq, scale
    scale_out.fill_(AMAX_FLOOR / torch.finfo(xq.dtype).max)
    dynamic_per_tensor_quant_fp8_i8(flat, rows, scale_out)
    return xq, scale_out


@op(
    "per_token_quant",
    source="aiter.ops.triton.quant.fused_fp8_quant.fused_flatten_fp8_group_quant (one group per row)",
    refuse=lambda spec: first(_common(spec), absent(spec, "scale")),
    needs=GROUPS,
    space=row_tiles,
    hides_nan=finds_scale,
)
@launched
def per_token_quant(ctx):
    # AITER's own per-token kernel divides by zero for an all-zero row; its group kernel with one group does not.
    return quantise_groups(ctx.operand("x"), next_power_of_2(ctx.operand("x").shape[-1]))


def quantise_groups(x, group_size: int, transpose_scale: bool = False):
    """One scale per `group_size` columns of every row."""
    import inspect

    import aiter
    from aiter.ops.triton.quant.fused_fp8_quant import fused_flatten_fp8_group_quant

    from jax_aiter.kernels.triton.worker.own import glue

    rows, kind = x.view(-1, 1, x.shape[-1]), aiter.dtypes.fp8
    if "transpose_scale" not in inspect.signature(fused_flatten_fp8_group_quant).parameters:  # up to 0.1.7
        xq, scale = fused_flatten_fp8_group_quant(rows, group_size, dtype_quant=kind)
        return xq, glue.transpose(scale, scale.new_empty(scale.shape[::-1])) if transpose_scale else scale
    xq, scale = fused_flatten_fp8_group_quant(rows, group_size, dtype_quant=kind, transpose_scale=transpose_scale)
    return xq, scale.T if transpose_scale else scale


def _refuse_group(spec: CallSpec) -> str | None:
    size = spec.params.get("group_size", 128)
    rule = None
    if size & (size - 1) or spec["x"].shape[-1] % size:
        rule = f"group_size = {size}; AITER's Triton kernel needs a power of two that divides {spec['x'].shape[-1]}"
    return first(_common(spec), absent(spec, "scale"), rule, param_is(spec, "transpose_scale", False, True, None))


@op(
    "group_quant",
    source="aiter.ops.triton.quant.fused_fp8_quant.fused_flatten_fp8_group_quant",
    refuse=_refuse_group,
    needs=GROUPS,
    space=row_tiles,
    hides_nan=finds_scale,
)
@launched
def group_quant(ctx):
    params = ctx.spec.params
    return quantise_groups(ctx.operand("x"), params.get("group_size", 128), bool(params.get("transpose_scale")))
