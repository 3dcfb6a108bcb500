"""Layer normalisation."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.launched import launched
from jax_aiter.kernels.triton.norm.rms_norm import rows
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, first, fits_int32
from jax_aiter.kernels.triton.tiles.rows import rows as row_tiles

MODULE = "aiter.ops.triton.normalization.norm"


def _refuse(spec: CallSpec) -> str | None:
    given = None if spec.has("bias") else "bias is absent; AITER's Triton kernel always adds one"
    return first(dtype_in(spec, "x", FLOAT), given, fits_int32(spec, "x"))


@op("layer_norm", source=f"{MODULE}.layer_norm", needs=("normalization.norm:layer_norm",), refuse=_refuse, space=row_tiles)
@launched
def layer_norm(ctx):
    from aiter.ops.triton.normalization.norm import layer_norm as kernel

    return kernel(rows(ctx.operand("x")), ctx.operand("weight"), ctx.operand("bias"), ctx.spec.params["epsilon"])


@op(
    "layer_norm_with_add",
    source=f"{MODULE}.layernorm2d_fwd_with_add",
    needs=("normalization.norm:layernorm2d_fwd_with_add",),
    refuse=_refuse,
    space=row_tiles,
)
@launched
def layer_norm_with_add(ctx):
    from aiter.ops.triton.normalization.norm import layernorm2d_fwd_with_add

    y, residual_out = ctx.results
    inputs = rows(ctx.operand("x")), rows(ctx.operand("residual")), rows(residual_out)
    layernorm2d_fwd_with_add(rows(y), *inputs, ctx.operand("weight"), ctx.operand("bias"), ctx.spec.params["epsilon"])
    return y, residual_out
