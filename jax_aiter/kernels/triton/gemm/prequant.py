"""A batch of products that quantises its activations inside, on AITER's Triton kernel."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.gemm.configured import configured
from jax_aiter.kernels.triton.gemm.gemm import out_dtype
from jax_aiter.kernels.triton.gemm.spaces import prequantised
from jax_aiter.kernels.triton.rules import dtype_in, first, fits_int32

NAME = "batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant"


def _refuse(spec: CallSpec) -> str | None:
    half = "X has dtype float16, in which AITER's Triton kernel rounds its least maximum to 0: a group of zeros would give NaN"
    return first(
        half if spec["X"].dtype == "float16" else None,
        dtype_in(spec, "WQ", (spec.fp8, "int8")),
        out_dtype(spec),
        fits_int32(spec, "X", "WQ"),
    )


@op(
    NAME,
    source=f"aiter.ops.triton.gemm.batched.{NAME}.{NAME}",
    refuse=_refuse,
    needs=(f"gemm.batched.{NAME}:{NAME}",),
    space=prequantised,
    hides_nan=lambda spec: True,  # x is quantised within
)
def batched_gemm_prequant(ctx):
    import importlib

    kernel = getattr(importlib.import_module(f"aiter.ops.triton.gemm.batched.{NAME}"), NAME)
    y, params = ctx.results[0], ctx.spec.params
    layout = {name: params[name] for name in ("group_size", "transpose_bm", "transpose_bm_in")}
    x, *others = (ctx.operand(name) for name in ("X", "WQ", "w_scale"))
    config = configured(ctx, f"gemm.batched.{NAME}", x.transpose(0, 1) if params["transpose_bm_in"] else x)
    return kernel(x, *others, bias=ctx.operand("bias"), dtype=y.dtype, YQ=y, config=config, **layout)
