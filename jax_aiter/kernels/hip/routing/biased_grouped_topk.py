"""Top-k routing among the best groups of experts, by scores with a bias: of very many tokens AITER has another kernel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jax_aiter.kernels.hip.adapters import Arranged, Entry, op
from jax_aiter.kernels.hip.routing.grouped_topk import SOURCE, WAVE, record, refuse, vector
from jax_aiter.kernels.hip.rules import FLOAT, dtype_in, first
from jax_aiter.kernels.spec import CallSpec

FUSED = "moe_fused_gate"
#: (E, groups, topk_group, topk) that AITER has a kernel of its own for.
DEEPSEEK = (256, 8, 4, 8)
#: tokens per compute unit up to which AITER takes the one kernel; experts of a group, which the other reads so many of.
TOKENS, GROUP = 212, 32


def _most(spec: CallSpec) -> int:
    from jax_aiter.core import arch  # imports jax, which a worker does without

    return TOKENS * arch.compute_units(spec.arch)


def _many(spec: CallSpec) -> bool:
    """Whether AITER takes its other kernel."""
    tokens, experts = spec["gating_output"].shape
    return tokens > _most(spec) and experts // spec.params["num_expert_group"] <= GROUP


def _served(spec: CallSpec) -> bool:
    """Whether that one computes the call: in release 0.1.7 it reads `GROUP` logits of a group, whether it has them or not."""
    experts, groups = spec["gating_output"].shape[1], spec.params["num_expert_group"]
    return experts == GROUP * groups and experts & (experts - 1) == 0 and groups <= WAVE and spec.params["renormalize"]


def _fused(spec: CallSpec) -> bool:
    return spec.params["fused"] if "fused" in spec.params else _many(spec) and _served(spec)


def _described(spec: CallSpec) -> CallSpec:
    """A worker does without jax, which knows the number of compute units."""
    return dataclasses.replace(spec, params={**spec.params, "fused": _fused(spec)})


def _deepseek(spec: CallSpec) -> bool:
    params = spec.params
    return (spec["gating_output"].shape[1], params["num_expert_group"], params["topk_group"], params["topk"]) == DEEPSEEK


def _refuse(spec: CallSpec) -> str | None:
    params, experts = spec.params, spec["gating_output"].shape[1]
    groups, rule = params["num_expert_group"], None
    same = dtype_in(spec, "correction_bias", (spec["gating_output"].dtype,))
    if _fused(spec):
        return first(dtype_in(spec, "gating_output", FLOAT), same)
    if groups in (2, 4) and experts // groups > vector(experts):
        rule = (
            f"num_expert_group = {groups} of {experts // groups} experts; AITER's HIP kernel scores a group by the "
            f"{vector(experts)} that its first lane holds, unless there are 8 groups"
        )
    elif groups == 1 and vector(experts) == 1 and experts <= WAVE:
        rule = f"one group of {experts} experts; AITER's HIP kernel finds no second one in its first lane, and chooses none"
    elif _deepseek(spec) and not params["renormalize"] and params["routed_scaling_factor"] != 1:
        rule = (
            f"routed_scaling_factor = {params['routed_scaling_factor']} without renormalize; AITER's HIP kernel for "
            f"{DEEPSEEK[0]} experts in {DEEPSEEK[1]} groups does not multiply by it"
        )
    return first(refuse(spec), same, rule)


def _finished(spec: CallSpec, operands: Mapping[str, Any], results: Sequence[Any]) -> Sequence[Any]:
    if _fused(spec):
        return _scaled(spec, *results)
    return _best_first(operands, *results) if _deepseek(spec) else results


def _scaled(spec: CallSpec, weights: Any, ids: Any) -> Sequence[Any]:
    """AITER's kernel for many tokens leaves the factor out, and divides zeros by their sum."""
    import jax.numpy as jnp

    return jnp.where(jnp.isnan(weights), 0, weights) * jnp.float32(spec.params["routed_scaling_factor"]), ids


def _best_first(operands: Mapping[str, Any], weights: Any, ids: Any) -> Sequence[Any]:
    """AITER's kernel for DeepSeek-V3 leaves the chosen in the order of their groups."""
    import jax
    import jax.numpy as jnp

    logits = jnp.take_along_axis(operands["gating_output"], ids, axis=1).astype(jnp.float32)
    score = jax.nn.sigmoid(logits) + operands["correction_bias"][ids].astype(jnp.float32)
    before = (score[:, None] > score[:, :, None]) | ((score[:, None] == score[:, :, None]) & (ids[:, None] < ids[:, :, None]))
    place = jnp.sum(before, axis=2, dtype=jnp.int32)
    chosen = place[:, None, :] == jnp.arange(ids.shape[1])[:, None]  # [T, place, slot]
    return [jnp.sum(jnp.where(chosen, x[:, None, :], 0), axis=2, dtype=x.dtype) for x in (weights, ids)]


def _entry(spec: CallSpec) -> Entry:
    most = _most(spec)
    if _fused(spec):
        return Entry(f"aiter.biased_grouped_topk takes {FUSED} for more than {most} tokens")
    rule = f"aiter.biased_grouped_topk takes it for up to {most} tokens, and for groups of more than {GROUP} experts"
    tokens = spec["gating_output"].shape[0]
    other = (
        f"there are {tokens} tokens; of more than {most} AITER takes {FUSED}, which is given groups of {GROUP} experts and "
        "renormalised weights alone"
    )
    return Entry(rule, other if _many(spec) else None)


@op(
    "biased_grouped_topk",
    function=f"biased_grouped_topk; of very many tokens {FUSED}",
    sources=lambda spec: (FUSED,) if _fused(spec) else (SOURCE,),
    refuse=_refuse,
    arrange=Arranged(_described, finish=_finished),
    entry=_entry,
)
def biased_grouped_topk(ctx):
    if not _fused(ctx.spec):
        record(ctx, "biased_grouped_topk", ctx["correction_bias"])
        return
    params = ctx.params
    how = params["num_expert_group"], params["topk_group"], params["topk"], 0, params["routed_scaling_factor"]
    returns = ctx.torch(FUSED)  # release 0.1.7's gives back what it was given
    ctx.call(FUSED, FUSED, ctx["gating_output"], ctx["correction_bias"], *ctx.results, *how, returns=returns)
