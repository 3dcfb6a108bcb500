"""RMS normalisation."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, first, fits_int32, row_fits


def rows(tensor):
    """[..., N] as [M, N]: the kernels are written for matrices."""
    return tensor.view(-1, tensor.shape[-1])


def _refuse(spec: CallSpec) -> str | None:
    return first(dtype_in(spec, "x", FLOAT), dtype_in(spec, "weight", FLOAT), fits_int32(spec, "x"))


@op(
    "rms_norm",
    source="aiter.ops.triton.normalization.rmsnorm.rms_norm",
    refuse=_refuse,
    needs=("normalization.rmsnorm:rms_norm",),
)
def rms_norm(ctx):
    from aiter.ops.triton.normalization.rmsnorm import rms_norm as kernel

    x = ctx.operand("x")
    return kernel(rows(x), ctx.operand("weight"), ctx.spec.params["epsilon"])


@op(
    "rms_norm_with_add_pad",
    source="aiter.ops.triton.normalization.fused_add_rmsnorm_pad.fused_add_rmsnorm_pad",
    needs=("normalization.fused_add_rmsnorm_pad:fused_add_rmsnorm_pad",),
    refuse=lambda spec: first(_refuse(spec), row_fits(spec.results[0].shape[-1], "y")),
)
def rms_norm_with_add_pad(ctx):
    from aiter.ops.triton.normalization.fused_add_rmsnorm_pad import fused_add_rmsnorm_pad

    x, residual, params = rows(ctx.operand("x")), rows(ctx.operand("residual")), ctx.spec.params
    return fused_add_rmsnorm_pad(x, ctx.operand("weight"), params["epsilon"], residual, params["x_pad_to_multiple"])


@op(
    "fused_qk_rms_norm",
    source="aiter.ops.triton.normalization.rmsnorm.rms_norm, once for each",
    needs=("normalization.rmsnorm:rms_norm",),
    refuse=lambda spec: first(
        dtype_in(spec, "q", FLOAT),
        dtype_in(spec, "k", FLOAT),
        fits_int32(spec, "q", "k"),
    ),
)
def fused_qk_rms_norm(ctx):
    from aiter.ops.triton.normalization.rmsnorm import rms_norm as kernel

    return tuple(
        kernel(rows(ctx.operand(name)), ctx.operand(f"{name}_weight"), ctx.spec.params[f"{name}_epsilon"]) for name in "qk"
    )


@op(
    "rms_norm_with_add",
    source="aiter.ops.triton.normalization.rmsnorm.rmsnorm2d_fwd_with_add",
    refuse=_refuse,
    needs=("normalization.rmsnorm:rmsnorm2d_fwd_with_add",),
)
def rms_norm_with_add(ctx):
    from aiter.ops.triton.normalization.rmsnorm import rmsnorm2d_fwd_with_add

    y, residual_out = ctx.results
    x, residual = ctx.operand("x"), ctx.operand("residual")
    rmsnorm2d_fwd_with_add(rows(y), rows(x), rows(residual), rows(residual_out), ctx.operand("weight"), ctx.spec.params["epsilon"])
    return y, residual_out
