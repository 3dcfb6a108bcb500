"""Top-k routing among the best groups of experts."""

from __future__ import annotations

from typing import Any

from jax_aiter.kernels.hip.adapters import op
from jax_aiter.kernels.hip.rules import FLOAT, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

SOURCE = "topk_group"
GROUPS = (1, 2, 4, 8)
#: a wave takes a token: each lane keeps one of its experts.
WAVE = 64
#: LDS that a workgroup may have, of which the scores and the groups' take a float32 each.
SCORES = (64 << 10) // 4 - 1024


def vector(experts: int) -> int:
    """Logits that a lane loads at a time."""
    return {0: 4, 2: 2}.get(experts % 4, 1)


def refuse(spec: CallSpec) -> str | None:
    gating, topk, groups = spec["gating_output"], spec.params["topk"], spec.params["num_expert_group"]
    experts, rule = gating.shape[1], None
    if groups not in GROUPS:
        rule = f"num_expert_group = {groups}; AITER's HIP kernel takes {', '.join(map(str, GROUPS))}"
    elif topk > WAVE:
        rule = f"topk is {topk}; AITER's HIP kernel keeps at most {WAVE}"
    elif experts > SCORES:
        rule = f"gating_output has {experts} experts; AITER's HIP kernel keeps at most {SCORES}"
    elif groups > 1 and (experts // groups) % vector(experts):
        rule = f"num_expert_group = {groups} of {experts} experts; AITER's HIP kernel takes {vector(experts)} of a group at a time"
    return first(dtype_in(spec, "gating_output", FLOAT), rule, fits_int32(spec, "gating_output"))


def record(ctx, function: str, *arrays: Any, more: tuple[Any, ...] = ()) -> None:
    params = ctx.params
    how = params["num_expert_group"], params["topk_group"], params["renormalize"], *more, params["routed_scaling_factor"]
    ctx.call(SOURCE, function, ctx["gating_output"], *arrays, *ctx.results, *how)
    # A row of NaN has no best group, whose mark is then put behind the groups' scores.
    ctx.least_lds(4 * (ctx["gating_output"].shape[1] + params["num_expert_group"] + 1))


@op("grouped_topk", function="grouped_topk", sources=(SOURCE,), refuse=refuse, entry="aiter.grouped_topk is this function")
def grouped_topk(ctx):
    record(ctx, "grouped_topk", more=(ctx.params["scoring_func"] == "softmax",))
