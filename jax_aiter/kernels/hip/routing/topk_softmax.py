"""Top-k routing by softmax or sigmoid of the logits alone.

What AITER's kernels do otherwise than ours, where logits are not finite or differ by more than float32 tells apart: a NaN is passed
over, or makes its row's weights NaN; -inf, once chosen, may be chosen again where fewer than topk logits are finite; and where the
number of experts is no power of two up to 512 experts are chosen by probability, sigmoids always by their value, so that those that
underflow, or saturate, are ties.
"""

from __future__ import annotations

from jax_aiter.kernels.hip.adapters import op
from jax_aiter.kernels.hip.rules import FLOAT, HALF, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

SOFTMAX, SIGMOID = "topk_softmax", "topk_sigmoid"
#: release 0.1.7 has instances of its sigmoid kernel up to so many experts; of later ones a wave holds a row's choice.
FEW, WAVE = 192, 64


def _refuse(spec: CallSpec) -> str | None:
    return first(dtype_in(spec, "gating_output", FLOAT), fits_int32(spec, "gating_output"))


@op(
    "topk_softmax",
    function="aiter::topk_softmax",
    sources=(SOFTMAX,),
    refuse=_refuse,
    entry="aiter.fused_topk takes it where it has no hand-written kernel",
)
def topk_softmax(ctx):
    weights, ids = ctx.results
    gating, renormalize = ctx["gating_output"], ctx.params["renormalize"]
    rows = ctx.scratch(ids.shape, "int32")  # numbers of (slot, token), which nothing reads
    if 8 in ctx.takes(SOFTMAX, "aiter::topk_softmax"):  # later releases are given the probabilities' place, and shared experts
        probabilities = ctx.scratch((gating.size,), "float32")
        ctx.call(SOFTMAX, "aiter::topk_softmax", weights, ids, rows, gating, probabilities, renormalize, 0, "")
    else:
        ctx.call(SOFTMAX, "aiter::topk_softmax", weights, ids, rows, gating, renormalize)


def _older(spec: CallSpec) -> bool:
    """Whether the kernel of release 0.1.7 does."""
    gating = spec["gating_output"]
    return gating.dtype in HALF and gating.shape[1] <= FEW and not spec.params["renormalize"]


def _refuse_sigmoid(spec: CallSpec) -> str | None:
    topk = spec.params["topk"]
    wide = f"topk is {topk}; AITER's HIP kernel keeps at most {WAVE}" if topk > WAVE else None
    return first(_refuse(spec), wide)


def _needs(spec: CallSpec) -> tuple[tuple[str, str, int], ...]:
    return () if _older(spec) else ((SIGMOID, "aiter::topk_gating", 7),)


@op(
    "topk_sigmoid",
    function="aiter::topk_sigmoid; later topk_gating",
    sources=(SIGMOID,),
    refuse=_refuse_sigmoid,
    needs=_needs,
    entry="aiter.topk_sigmoid calls nothing else",
)
def topk_sigmoid(ctx):
    weights, ids = ctx.results
    gating = ctx["gating_output"]
    if ctx.takes(SIGMOID, "aiter::topk_sigmoid"):
        ctx.call(SIGMOID, "aiter::topk_sigmoid", weights, ids, gating)
    else:
        bias = ctx.nowhere((0,), "float32")
        ctx.call(SIGMOID, "aiter::topk_gating", weights, ids, gating, bias, ctx.params["renormalize"], 1.0, "sigmoid")
