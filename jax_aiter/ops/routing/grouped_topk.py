"""Group-limited top-k routing (DeepSeek-V2)."""

import functools

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.routing import selection

SCORING = ("softmax", "sigmoid")


def _abstract(dims, *, gating_output, topk, num_expert_group, topk_group, renormalize, scoring_func, routed_scaling_factor):
    selection.check_groups("grouped_topk", topk, dims["E"], num_expert_group, topk_group, best=1)
    return selection.struct(gating_output, topk)


def _weights(scoring_func, renormalize, routed_scaling_factor):
    weigh = {"softmax": selection.softmax_weights, "sigmoid": selection.sigmoid_weights}[scoring_func]
    return functools.partial(weigh, renormalize=renormalize, factor=routed_scaling_factor)


def _reference(*, gating_output, topk, num_expert_group, topk_group, renormalize, scoring_func, routed_scaling_factor):
    # A group's score is its best expert's, and both score functions are monotone, so logits choose groups and experts alike.
    scores = selection.best_groups(gating_output.astype(jnp.float32), num_expert_group, topk_group, best=1)
    ids = selection.select(scores, topk)
    return _weights(scoring_func, renormalize, routed_scaling_factor)(gating_output, ids), ids


def _backward(saved, cotangents, *, implementation, scoring_func, renormalize, routed_scaling_factor, **_):
    weights = _weights(scoring_func, renormalize, routed_scaling_factor)
    return {"gating_output": selection.pull_back(weights, saved["gating_output"], saved["topk_ids"], cotangents["topk_weights"])}


GROUPED_TOPK = Op(
    name="grouped_topk",
    family="MOE",
    mirrors="aiter.grouped_topk (aiter/ops/topk.py)",
    operands={"gating_output": Arg("T E")},
    results={"topk_weights": "T k", "topk_ids": "T k"},
    abstract=_abstract,
    reference=_reference,
    parallel=("T",),
    fold="T",
    gradient=Gradient(wrt=("gating_output",), saves=("gating_output", "topk_ids"), backward=_backward),
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
      implementation: None (auto), ``"asm"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``topk_weights`` float32 ``[T, topk]`` and ``topk_ids`` int32 ``[T, topk]``, best first, among equals (groups too) the lowest
      id first. Differentiable in `gating_output`.

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
