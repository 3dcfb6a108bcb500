"""Group-limited top-k routing with a bias that selects but does not weigh (DeepSeek-V3)."""

import functools

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.ops.routing import selection, shared
from jax_aiter.ops.routing.router import router


def _check(dims, *, topk, num_expert_group, topk_group, **_):
    selection.check_groups("biased_grouped_topk", topk, dims["E"], num_expert_group, topk_group, best=2)


def _choose(*, gating_output, correction_bias, topk, num_expert_group, topk_group, **_):
    scores = jax.nn.sigmoid(gating_output.astype(jnp.float32)) + correction_bias.astype(jnp.float32)
    return selection.select(selection.best_groups(scores, num_expert_group, topk_group, best=2), topk)


def _weigh(*, renormalize, routed_scaling_factor, **_):
    return functools.partial(selection.sigmoid_weights, renormalize=renormalize, factor=routed_scaling_factor)


BIASED_GROUPED_TOPK = router(
    "biased_grouped_topk",
    mirrors="aiter.biased_grouped_topk (aiter/ops/topk.py)",
    operands={"gating_output": Arg("T E"), "correction_bias": Arg("E")},
    decides=("correction_bias",),
    check=_check,
    choose=_choose,
    weigh=_weigh,
    cases=lambda: [
        case(
            "deepseek_v3",
            gating_output=normal(4, 32),
            correction_bias=normal(32, std=0.1),
            topk=6,
            num_expert_group=4,
            topk_group=2,
            renormalize=True,
            routed_scaling_factor=2.5,
        ),
        case(
            "one_group",
            gating_output=normal(3, 7, dtype=jnp.bfloat16),
            correction_bias=normal(7, std=0.1, dtype=jnp.bfloat16),
            topk=2,
            num_expert_group=1,
            topk_group=1,
            renormalize=False,
            routed_scaling_factor=1.0,
        ),
    ],
)


@public
def biased_grouped_topk(
    gating_output: jax.Array,
    correction_bias: jax.Array,
    topk: int,
    *,
    num_expert_group: int,
    topk_group: int,
    renormalize: bool,
    routed_scaling_factor: float = 1.0,
    num_fused_shared_experts: int = 0,
    shared_experts_score: float = 1.0,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """DeepSeek-V3's router: ``sigmoid(logits) + bias`` chooses groups and experts, ``sigmoid(logits)`` alone weighs them.

    Args:
      gating_output: ``[T, E]`` router logits, float32, bfloat16 or float16; E is a multiple of `num_expert_group`.
      correction_bias: ``[E]`` float32, bfloat16 or float16.
      topk: static, 1 <= topk <= topk_group * E / num_expert_group.
      num_expert_group: static; groups are consecutive experts, at least two in each (unless there is one group). A group's score
        is the sum of its two highest biased scores.
      topk_group: static, 1 <= topk_group <= num_expert_group; experts of other groups are never chosen.
      renormalize: static; divide each row's weights by their sum (no epsilon; a row of zeros stays zero).
      routed_scaling_factor: static, multiplies the weights after renormalisation.
      num_fused_shared_experts: static; S experts that every token takes get slots of their own behind the chosen ones. They have no
        columns in `gating_output`.
      shared_experts_score: static; the weight of each, which neither `renormalize` nor `routed_scaling_factor` changes.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``topk_weights`` float32 ``[T, topk]`` and ``topk_ids`` int32 ``[T, topk]``, by biased score, best first, among equals the
      lowest id first. Differentiable in `gating_output`; the derivative in `correction_bias` is zero, as the bias only selects.
      With shared experts ``[T, topk + S]``: the last S ids are E, E + 1, ..., the numbers of experts whose weights are appended to
      the others' (`fused_moe`).

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.biased_grouped_topk``.
    """
    name = "biased_grouped_topk"
    count = check.integer(name, "num_fused_shared_experts", num_fused_shared_experts, 0)
    score = check.real(name, "shared_experts_score", shared_experts_score)
    weights, ids = BIASED_GROUPED_TOPK(
        gating_output=gating_output,
        correction_bias=correction_bias,
        topk=check.integer(name, "topk", topk, 1),
        num_expert_group=check.integer(name, "num_expert_group", num_expert_group, 1),
        topk_group=check.integer(name, "topk_group", topk_group, 1),
        renormalize=check.boolean(name, "renormalize", renormalize),
        routed_scaling_factor=check.real(name, "routed_scaling_factor", routed_scaling_factor),
        implementation=implementation,
    )
    return shared.append(weights, ids, gating_output.shape[1], shared.constant(weights, count, score)) if count else (weights, ids)
