"""Choosing experts by softmax. AITER's own routing kernels order by expert number and prefer the highest among equals, and its
plain top-k kernel leaves the softmax to another one: with what it takes to bring these together, four launches. Ours is one."""

# pyright: reportMissingImports=false
# torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.rules import FLOAT, dtype_in, first
from jax_aiter.kernels.triton.tiles.space import Space

OWN = "jax_aiter.kernels.triton.worker.own.moe.glue_router.chosen_experts"


def _refuse(spec: CallSpec) -> str | None:
    experts = spec["gating_output"].shape[1]
    rule = None if experts <= 1024 else f"gating_output has {experts} experts; a row of at most 1024 is chosen from in registers"
    return first(dtype_in(spec, "gating_output", FLOAT), rule)


def _own(spec: CallSpec) -> dict[str, int]:
    return {"num_warps": 1 if spec["gating_output"].shape[1] <= 512 else 2}


def _space(spec: CallSpec) -> Space:
    rows, experts = spec["gating_output"].shape
    return Space({"num_warps": (1, 2, 4)}, {"rows": rows, "experts": experts})


@op("topk_softmax", source=OWN, refuse=_refuse, needs=(), space=_space)
def topk_softmax(ctx):
    from jax_aiter.kernels.triton.worker.own.moe import glue_router

    config = ctx.tiled(_own(ctx.spec))
    weights, ids = ctx.results
    glue_router.chosen_experts(ctx.operand("gating_output"), ctx.spec.params["renormalize"], weights, ids, config)
    return ctx.results
