"""RMS normalisation."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

import contextlib

from jax_aiter.kernels.spec import COMPUTE_UNITS, CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.launched import launched
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, first, fits_int32, row_fits
from jax_aiter.kernels.triton.tiles.rows import PER_UNIT, staying
from jax_aiter.kernels.triton.tiles.rows import rows as row_tiles


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
    space=staying,
)
@launched
def rms_norm(ctx):
    x = ctx.operand("x")
    with _programs(ctx) as module:
        return module.rms_norm(rows(x), ctx.operand("weight"), ctx.spec.params["epsilon"])


@contextlib.contextmanager
def _programs(ctx):
    """AITER's module, which gives a compute unit one program that goes from row to row unless the call's tile says how many."""
    from aiter.ops.triton.normalization import rmsnorm

    from jax_aiter.kernels.triton.worker import altered

    most = COMPUTE_UNITS[ctx.spec.arch] * ctx.tiled({PER_UNIT: 1})[PER_UNIT]
    with altered.members(rmsnorm, num_programs=lambda x: min(x.shape[0], most)):
        yield rmsnorm


@op(
    "rms_norm_with_add_pad",
    source="aiter.ops.triton.normalization.fused_add_rmsnorm_pad.fused_add_rmsnorm_pad",
    needs=("normalization.fused_add_rmsnorm_pad:fused_add_rmsnorm_pad",),
    refuse=lambda spec: first(_refuse(spec), row_fits(spec.results[0].shape[-1], "y")),
    space=row_tiles,
)
@launched
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
    space=lambda spec: staying(spec, "q"),
)
@launched
def fused_qk_rms_norm(ctx):
    with _programs(ctx) as module:
        norms = ((ctx.operand(name), ctx.operand(f"{name}_weight"), ctx.spec.params[f"{name}_epsilon"]) for name in "qk")
        return tuple(module.rms_norm(rows(x), *by) for x, *by in norms)


@op(
    "rms_norm_with_add",
    source="aiter.ops.triton.normalization.rmsnorm.rmsnorm2d_fwd_with_add",
    refuse=_refuse,
    needs=("normalization.rmsnorm:rmsnorm2d_fwd_with_add",),
    space=staying,
)
@launched
def rms_norm_with_add(ctx):
    y, residual_out = ctx.results
    inputs = rows(ctx.operand("x")), rows(ctx.operand("residual")), rows(residual_out)
    with _programs(ctx) as module:
        module.rmsnorm2d_fwd_with_add(rows(y), *inputs, ctx.operand("weight"), ctx.spec.params["epsilon"])
    return y, residual_out
