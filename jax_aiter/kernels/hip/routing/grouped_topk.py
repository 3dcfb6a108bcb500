"""Top-k routing among the best groups of experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, Entry, op
from jax_aiter.kernels.hip.rules import FLOAT, dtype_in, first, fits_int32
from jax_aiter.kernels.spec import CallSpec

SOURCE = "topk_group"
GROUPS = (1, 2, 4, 8)
#: a wave takes a token: each lane keeps one of its experts.
WAVE = 64
#: LDS that a workgroup may have, of which the scores and the groups' take a float32 each.
SCORES = (64 << 10) // 4 - 1024
#: (E, groups, topk_group, topk) that AITER has a kernel of its own for.
DEEPSEEK = (256, 8, 4, 8)
#: tokens per compute unit up to which AITER takes it, and experts of a group beyond which it has no other.
TOKENS, LARGE = 212, 32


def _vector(experts: int) -> int:
    """Logits that a lane loads at a time."""
    return {0: 4, 2: 2}.get(experts % 4, 1)


def _refuse(spec: CallSpec) -> str | None:
    gating, topk, groups = spec["gating_output"], spec.params["topk"], spec.params["num_expert_group"]
    experts, rule = gating.shape[1], None
    if groups not in GROUPS:
        rule = f"num_expert_group = {groups}; AITER's HIP kernel takes {', '.join(map(str, GROUPS))}"
    elif topk > WAVE:
        rule = f"topk is {topk}; AITER's HIP kernel keeps at most {WAVE}"
    elif experts > SCORES:
        rule = f"gating_output has {experts} experts; AITER's HIP kernel keeps at most {SCORES}"
    elif groups > 1 and (experts // groups) % _vector(experts):
        rule = f"num_expert_group = {groups} of {experts} experts; AITER's HIP kernel takes {_vector(experts)} of a group at a time"
    return first(dtype_in(spec, "gating_output", FLOAT), rule, fits_int32(spec, "gating_output"))


def _record(ctx, function: str, *arrays: Any, more: tuple[Any, ...] = ()) -> None:
    params = ctx.params
    how = params["num_expert_group"], params["topk_group"], params["renormalize"], *more, params["routed_scaling_factor"]
    ctx.call(SOURCE, function, ctx["gating_output"], *arrays, *ctx.results, *how)
    # A row of NaN has no best group, whose mark is then put behind the groups' scores.
    ctx.least_lds(4 * (ctx["gating_output"].shape[1] + params["num_expert_group"] + 1))


@op("grouped_topk", function="grouped_topk", sources=(SOURCE,), refuse=_refuse, entry="aiter.grouped_topk is this function")
def grouped_topk(ctx):
    _record(ctx, "grouped_topk", more=(ctx.params["scoring_func"] == "softmax",))


def _deepseek(spec: CallSpec) -> bool:
    params = spec.params
    return (spec["gating_output"].shape[1], params["num_expert_group"], params["topk_group"], params["topk"]) == DEEPSEEK


def _refuse_biased(spec: CallSpec) -> str | None:
    params, experts = spec.params, spec["gating_output"].shape[1]
    groups, rule = params["num_expert_group"], None
    if groups in (2, 4) and experts // groups > _vector(experts):
        rule = (
            f"num_expert_group = {groups} of {experts // groups} experts; AITER's HIP kernel scores a group by the "
            f"{_vector(experts)} that its first lane holds, unless there are 8 groups"
        )
    elif groups == 1 and _vector(experts) == 1 and experts <= WAVE:
        rule = f"one group of {experts} experts; AITER's HIP kernel finds no second one in its first lane, and chooses none"
    elif _deepseek(spec) and not params["renormalize"] and params["routed_scaling_factor"] != 1:
        rule = (
            f"routed_scaling_factor = {params['routed_scaling_factor']} without renormalize; AITER's HIP kernel for "
            f"{DEEPSEEK[0]} experts in {DEEPSEEK[1]} groups does not multiply by it"
        )
    return first(_refuse(spec), dtype_in(spec, "correction_bias", (spec["gating_output"].dtype,)), rule)


def _best_first(spec: CallSpec, operands: Mapping[str, Any], results: Sequence[Any]) -> Sequence[Any]:
    """AITER's kernel for DeepSeek-V3 leaves the chosen in the order of their groups."""
    if not _deepseek(spec):
        return results
    import jax
    import jax.numpy as jnp

    weights, ids = results
    logits = jnp.take_along_axis(operands["gating_output"], ids, axis=1).astype(jnp.float32)
    score = jax.nn.sigmoid(logits) + operands["correction_bias"][ids].astype(jnp.float32)
    before = (score[:, None] > score[:, :, None]) | ((score[:, None] == score[:, :, None]) & (ids[:, None] < ids[:, :, None]))
    place = jnp.sum(before, axis=2, dtype=jnp.int32)
    chosen = place[:, None, :] == jnp.arange(ids.shape[1])[:, None]  # [T, place, slot]
    return [jnp.sum(jnp.where(chosen, x[:, None, :], 0), axis=2, dtype=x.dtype) for x in (weights, ids)]


def _entry(spec: CallSpec) -> Entry:
    from jax_aiter.core import arch  # imports jax, which a worker does without

    tokens, experts = spec["gating_output"].shape
    most = TOKENS * arch.compute_units(spec.arch)
    rule = f"aiter.biased_grouped_topk takes it for up to {most} tokens, and for groups of more than {LARGE} experts"
    other = tokens > most and experts // spec.params["num_expert_group"] <= LARGE
    return Entry(rule, f"there are {tokens} tokens; of more than {most} AITER takes moe_fused_gate" if other else None)


@op(
    "biased_grouped_topk",
    function="biased_grouped_topk",
    sources=(SOURCE,),
    refuse=_refuse_biased,
    arrange=Arranged(finish=_best_first),
    entry=_entry,
)
def biased_grouped_topk(ctx):
    _record(ctx, "biased_grouped_topk", ctx["correction_bias"])
