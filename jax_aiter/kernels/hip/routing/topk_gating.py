"""Top-k routing by one of three scores and a bias that takes part in the choice: a kernel that came after release 0.1.7.

What it does otherwise than ours: without a bias it chooses by scores, so that logits whose scores float32 does not tell apart are
ties. A softplus is the logarithm of 1 + exp(x) in float32, to a rounding of 1: of logits far below zero little is left of it, and
nothing below -17. A NaN is passed over.
"""

from __future__ import annotations

from jax_aiter.kernels.hip.adapters import op
from jax_aiter.kernels.hip.routing.topk_softmax import SIGMOID, WAVE
from jax_aiter.kernels.hip.rules import FLOAT, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

FUNCTION = "aiter::topk_gating"
#: experts whose scores, a float32 each, fit the LDS of a workgroup.
SCORES = (64 << 10) // 4


def _refuse(spec: CallSpec) -> str | None:
    gating, topk = spec["gating_output"], spec.params["topk"]
    biases = ("float32",) if gating.dtype == "float16" else ("float32", "bfloat16")
    rule = None
    if topk > WAVE:
        rule = f"topk is {topk}; AITER's HIP kernel keeps at most {WAVE}"
    elif gating.shape[1] > SCORES:
        rule = f"gating_output has {gating.shape[1]} experts; AITER's HIP kernel keeps at most {SCORES}"
    return first(
        dtype_in(spec, "gating_output", FLOAT),
        dtype_in(spec, "correction_bias", biases),
        rule,
        fits_int32(spec, "gating_output"),
    )


@op(
    "topk_gating",
    function=FUNCTION,
    sources=(SIGMOID,),
    refuse=_refuse,
    needs=lambda spec: ((SIGMOID, FUNCTION, 7),),
    entry="aiter.topk_gating calls nothing else",
)
def topk_gating(ctx):
    (weights, ids), params = ctx.results, ctx.params
    bias = ctx.operand("correction_bias") or ctx.nowhere((0,), "float32")
    how = params["need_renorm"], params["routed_scaling_factor"], params["score_func"]
    ctx.call(SIGMOID, FUNCTION, weights, ids, ctx["gating_output"], bias, *how)
