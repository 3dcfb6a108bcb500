"""Batches of products: of int8 matrices with their scales, and of bfloat16."""

from __future__ import annotations

from jax_aiter.kernels.hip.adapters import op
from jax_aiter.kernels.hip.gemm.entries import entry
from jax_aiter.kernels.hip.gemm.rules import loaded, only, record, written
from jax_aiter.kernels.hip.rules import first
from jax_aiter.kernels.spec import CallSpec

SCALED, PLAIN = "batched_gemm_a8w8", "batched_gemm_bf16"
#: the least step along K of AITER's tiles for bfloat16, which it compiles without padding.
STEP = 32


def _no_bias(spec: CallSpec) -> str | None:
    return "bias is given; AITER's CK kernels of batches leave it out without a word" if spec.has("bias") else None


@op(
    SCALED,
    function=SCALED,
    sources=(SCALED,),
    needs=lambda spec: ((SCALED, SCALED, 7),),
    refuse=lambda spec: first(only(spec, "XQ", "int8"), _no_bias(spec), written(spec), loaded(spec, "XQ", "WQ")),
    entry=entry,
)
def batched_gemm_a8w8(ctx):
    # The last, splitK, is not used.
    arrays = ctx["XQ"], ctx["WQ"], ctx["x_scale"], ctx["w_scale"], ctx.results[0]
    record(ctx, SCALED, *arrays, None, 0)


def _refuse_plain(spec: CallSpec) -> str | None:
    k, steps = spec["XQ"].shape[-1], None
    if k % STEP:
        steps = f"K = {k}; AITER's CK kernels of this op take multiples of {STEP}, most of them of 64 or 128"
    types = (only(spec, "XQ", "bfloat16"), only(spec, "WQ", "bfloat16"), written(spec, ("bfloat16",)))
    return first(*types, _no_bias(spec), steps, loaded(spec, "XQ", "WQ"))


@op(PLAIN, function=PLAIN, sources=(PLAIN,), needs=lambda spec: ((PLAIN, PLAIN, 5),), refuse=_refuse_plain, entry=entry)
def batched_gemm_bf16(ctx):
    record(ctx, PLAIN, ctx["XQ"], ctx["WQ"], ctx.results[0], None, 0)
