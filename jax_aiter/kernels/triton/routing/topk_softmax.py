"""Choosing experts. AITER's own routing kernels order by expert number and prefer the highest among equals; its plain
top-k kernel orders by value and prefers the lowest, which is the contract here."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, first, fits_int32
from jax_aiter.kernels.triton.tiles.rows import WARPS
from jax_aiter.kernels.triton.tiles.space import Space

NEEDS = ("topk:one_stage_topk", "softmax:softmax")


def _refuse(spec: CallSpec) -> str | None:
    experts = spec["gating_output"].shape[1]
    rule = None if experts <= 1024 else f"gating_output has {experts} experts; AITER's Triton kernel takes at most 1024"
    return first(dtype_in(spec, "gating_output", FLOAT), rule, fits_int32(spec, "gating_output"))


def _space(spec: CallSpec) -> Space:
    rows, experts = spec["gating_output"].shape
    return Space({"topk.num_warps": WARPS, "softmax.num_warps": WARPS}, {"rows": rows, "experts": experts})


@op("topk_softmax", source="aiter.ops.triton.topk.one_stage_topk, softmax.softmax", refuse=_refuse, needs=NEEDS, space=_space)
def topk_softmax(ctx):
    from aiter.ops.triton.softmax import softmax
    from aiter.ops.triton.topk import one_stage_topk

    from jax_aiter.kernels.triton.worker import altered
    from jax_aiter.kernels.triton.worker.own import glue

    exact, bounded = glue.router_input(ctx.operand("gating_output"))
    with altered.launches(lambda own: ctx.tiled(own, "topk")):
        _, chosen = one_stage_topk(bounded, ctx.spec.params["topk"])
    with altered.launches(lambda own: ctx.tiled(own, "softmax")):
        probabilities = softmax(exact)
    glue.router_output(probabilities, chosen, ctx.spec.params["renormalize"], *ctx.results)
    return ctx.results
