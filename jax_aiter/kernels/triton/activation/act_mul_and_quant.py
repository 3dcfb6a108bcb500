"""Gated activations whose product is quantised in the same kernel."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.activation.gated import WHOLE_ROWS, wide_rows
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.launched import launched
from jax_aiter.kernels.triton.norm.quant import quantised
from jax_aiter.kernels.triton.norm.rms_norm import rows
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, finds_scale, first, fits_int32, next_power_of_2, param_is, row_fits
from jax_aiter.kernels.triton.tiles.rows import rows as row_tiles


def _by_group(spec: CallSpec) -> bool:
    """Whether the kernel with one program for each group knows the call; the other one holds a whole row."""
    params = spec.params
    return params["group_size"] is not None and not params["transpose_scale"] and not params["limit"]


def _needs(spec: CallSpec) -> tuple[str, ...]:
    if spec.has("scale"):
        return ("quant.fused_fp8_quant:fused_silu_mul_fp8_per_tensor_static_quant",)
    return ("activation:act_mul_and_fp8_group_quant",) if _by_group(spec) else WHOLE_ROWS


def _refuse(spec: CallSpec) -> str | None:
    if spec.has("scale"):
        kernel = first(
            param_is(spec, "activation", "silu"), param_is(spec, "limit", 0.0), row_fits(spec["x"].shape[-1] // 2, "half of x")
        )
    else:
        kernel = None if _by_group(spec) else wide_rows(spec)
    return first(quantised(spec), dtype_in(spec, "x", FLOAT), kernel, fits_int32(spec, "x"))


@op(
    "act_mul_and_quant",
    source="aiter.ops.triton.activation.act_mul_and_fp8_group_quant; of whole rows: fusions.fused_clamp_act_mul; "
    "with a scale: quant.fused_fp8_quant.fused_silu_mul_fp8_per_tensor_static_quant",
    needs=_needs,
    refuse=_refuse,
    space=row_tiles,
    hides_nan=finds_scale,
)
@launched
def act_mul_and_quant(ctx):
    (xq, scale), x, params = ctx.results, rows(ctx.operand("x")), ctx.spec.params
    if ctx.operand("scale") is not None:
        from aiter.ops.triton.quant.fused_fp8_quant import fused_silu_mul_fp8_per_tensor_static_quant

        return fused_silu_mul_fp8_per_tensor_static_quant(x, ctx.operand("scale"), xq.dtype), scale
    if _by_group(ctx.spec):
        from aiter.ops.triton.activation import act_mul_and_fp8_group_quant

        return act_mul_and_fp8_group_quant(x, params["activation"], params["group_size"], xq.dtype)
    from aiter.ops.triton.fusions.fused_clamp_act_mul import fused_clamp_act_mul

    return fused_clamp_act_mul(
        x,
        swiglu_limit=params["limit"],
        activation=params["activation"],
        dtype_quant=xq.dtype,
        transpose_scale=params["transpose_scale"],
        quant_block_size=params["group_size"] or next_power_of_2(x.shape[-1] // 2),
    )
