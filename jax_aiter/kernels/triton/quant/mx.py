"""MXFP4 and MXFP8 quantisation on AITER's Triton kernels."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.launched import launched
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, first, fits_int32, param_is, row_fits

FP4 = ("quant.quant:dynamic_mxfp4_quant",)


def _common(spec: CallSpec) -> str | None:
    return first(dtype_in(spec, "x", FLOAT), fits_int32(spec, "x"))


def own_fp4(arch: str, mode: str = "even") -> bool:
    """Whether rows become MXFP4 by a kernel of ours: on NVIDIA, and where AITER has not the mode."""
    # Seen on an H200 of AITER's: every scale below one came out as one.
    return arch.startswith("sm_") or mode != "even"


@op(
    "dynamic_mxfp4_quant",
    source="aiter.ops.triton.quant.quant.dynamic_mxfp4_quant, jax_aiter.kernels.triton.worker.own.glue_mx.mxfp4",
    refuse=_common,
    needs=lambda spec: () if own_fp4(spec.arch, spec.params["scaling_mode"]) else FP4,
)
@launched
def dynamic_mxfp4_quant(ctx):
    x, mode = ctx.operand("x").view(-1, ctx.operand("x").shape[-1]), ctx.spec.params["scaling_mode"]
    if own_fp4(ctx.spec.arch, mode):
        from jax_aiter.kernels.triton.worker.own import glue_mx

        return glue_mx.mxfp4(x, mode)
    from aiter.ops.triton.quant.quant import dynamic_mxfp4_quant

    from jax_aiter.kernels.triton.worker.own import glue

    x_fp4, scale = dynamic_mxfp4_quant(x)
    # AITER stores the scales by columns.
    return x_fp4, scale if scale.is_contiguous() else glue.transpose(scale.T, scale.new_empty(scale.shape))


def _refuse_fp8(spec: CallSpec) -> str | None:
    # AITER's scale takes 256 for the largest power of two, which float8_e4m3fnuz does not have.
    ocp = "float8_e4m3fn"
    out = spec.results[0].dtype
    rule = None if out == ocp else f"quant_dtype = {out}; AITER's Triton kernel makes scales for {ocp}"
    return first(rule, _common(spec), param_is(spec, "scaling_mode", "even"), row_fits(spec["x"].shape[-1], "x"))


@op(
    "dynamic_mxfp8_quant",
    source="aiter.ops.triton.quant.quant.dynamic_mxfp8_quant",
    refuse=_refuse_fp8,
    needs=("quant.quant:dynamic_mxfp8_quant",),
)
@launched
def dynamic_mxfp8_quant(ctx):
    from aiter.ops.triton.quant.quant import dynamic_mxfp8_quant

    return dynamic_mxfp8_quant(ctx.operand("x").view(-1, ctx.operand("x").shape[-1]), quant_dtype=ctx.results[0].dtype)
