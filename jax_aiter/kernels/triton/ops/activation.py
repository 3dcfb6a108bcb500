"""Gated activations."""

from __future__ import annotations

from jax_aiter.kernels.triton.ops import op
from jax_aiter.kernels.triton.ops.rules import FLOAT, HALF, dtype_in, first, fits_int32, nonempty
from jax_aiter.kernels.triton.spec import CallSpec


def _refuse_silu(spec: CallSpec) -> str | None:
    return first(nonempty(spec), dtype_in(spec, "x", FLOAT), fits_int32(spec, "x"))


@op("silu_and_mul", source="aiter.ops.triton.activation.fused_silu_mul", refuse=_refuse_silu)
def silu_and_mul(ctx):
    from aiter.ops.triton.activation import fused_silu_mul

    return fused_silu_mul(ctx.operand("x"), out=ctx.results[0])


def _refuse_gelu(spec: CallSpec) -> str | None:
    columns = spec["x"].shape[-1] // 2
    rule = None
    if columns % 128 or columns > 32768:
        rule = f"x has {columns} columns per half; AITER's Triton kernel needs a multiple of 128, at most 32768"
    return first(nonempty(spec), dtype_in(spec, "x", HALF), rule, fits_int32(spec, "x"))


@op("gelu_and_mul", source="aiter.ops.triton.fusions.fused_clamp_act_mul.fused_clamp_act_mul", refuse=_refuse_gelu)
def gelu_and_mul(ctx):
    from aiter.ops.triton.fusions.fused_clamp_act_mul import fused_clamp_act_mul

    x, y = ctx.operand("x"), ctx.results[0]
    rows = x.numel() // x.shape[-1]
    fused_clamp_act_mul(x.view(rows, -1), out=y.view(rows, -1), activation="gelu")
    return y
