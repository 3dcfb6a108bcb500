"""Group-limited top-k routing (DeepSeek-V2)."""

import functools

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.cases import case, normal
from jax_aiter.ops.routing import selection
from jax_aiter.ops.routing.router import router

SCORING = ("softmax", "sigmoid")


def _check(dims, *, topk, num_expert_group, topk_group, **_):
    selection.check_groups("grouped_topk", topk, dims["E"], num_expert_group, topk_group, best=1)


def _choose(*, gating_output, topk, num_expert_group, topk_group, **_):
    # A group's score is its best expert's, and both score functions are monotone, so logits choose groups and experts alike.
    return selection.select(selection.best_groups(gating_output.astype(jnp.float32), num_expert_group, topk_group, best=1), topk)


def _weigh(*, scoring_func, renormalize, routed_scaling_factor, **_):
    weigh = {"softmax": selection.softmax_weights, "sigmoid": selection.sigmoid_weights}[scoring_func]
    return functools.partial(weigh, renormalize=renormalize, factor=routed_scaling_factor)


GROUPED_TOPK = router(
    "grouped_topk",
    mirrors="aiter.grouped_topk (aiter/ops/topk.py)",
    check=_check,
    choose=_choose,
    weigh=_weigh,
    cases=lambda: [
        case(
            "deepseek_v2",
            gating_output=normal(4, 32),
            topk=6,
            num_expert_group=8,
            topk_group=3,
            renormalize=False,
            scoring_func="softmax",
            routed_scaling_factor=16.0,
        ),
        case(
            "sigmoid",
            gating_output=normal(3, 12, dtype=jnp.bfloat16),
            topk=3,
            num_expert_group=4,
            topk_group=2,
            renormalize=True,
            scoring_func="sigmoid",
            routed_scaling_factor=2.5,
        ),
    ],
)


@public
def grouped_topk(
    gating_output: jax.Array,
    topk: int,
    *,
    num_expert_group: int,
    topk_group: int,
    renormalize: bool,
    scoring_func: str = "softmax",
    routed_scaling_factor: float = 1.0,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Top-k among the experts of the `topk_group` groups whose best expert scores highest.

    Args:
      gating_output: ``[T, E]`` router logits, float32, bfloat16 or float16; E is a multiple of `num_expert_group`.
      topk: static, 1 <= topk <= topk_group * E / num_expert_group.
      num_expert_group: static; groups are consecutive experts.
      topk_group: static, 1 <= topk_group <= num_expert_group.
      renormalize: static; divide each row's weights by their sum.
      scoring_func: ``"softmax"`` (over all E, before the groups are dropped) or ``"sigmoid"``.
      routed_scaling_factor: static, multiplies the weights after renormalisation.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``topk_weights`` float32 ``[T, topk]`` and ``topk_ids`` int32 ``[T, topk]``, best first, among equals (groups too) the lowest
      id first. Differentiable in `gating_output`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.grouped_topk``.
    """
    name = "grouped_topk"
    check.choice(name, "scoring_func", scoring_func, SCORING)
    weights, ids = GROUPED_TOPK(
        gating_output=gating_output,
        topk=check.integer(name, "topk", topk, 1),
        num_expert_group=check.integer(name, "num_expert_group", num_expert_group, 1),
        topk_group=check.integer(name, "topk_group", topk_group, 1),
        renormalize=check.boolean(name, "renormalize", renormalize),
        scoring_func=scoring_func,
        routed_scaling_factor=check.real(name, "routed_scaling_factor", routed_scaling_factor),
        implementation=implementation,
    )
    return weights, ids
