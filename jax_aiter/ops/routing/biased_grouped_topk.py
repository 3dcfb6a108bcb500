"""Group-limited top-k routing with a bias that selects but does not weigh (DeepSeek-V3)."""

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


def _abstract(dims, *, gating_output, correction_bias, topk, num_expert_group, topk_group, renormalize, routed_scaling_factor):
    selection.check_groups("biased_grouped_topk", topk, dims["E"], num_expert_group, topk_group, best=2)
    return selection.struct(gating_output, topk)


def _reference(*, gating_output, correction_bias, topk, num_expert_group, topk_group, renormalize, routed_scaling_factor):
    choice = jax.nn.sigmoid(gating_output.astype(jnp.float32)) + correction_bias.astype(jnp.float32)
    ids = selection.select(selection.best_groups(choice, num_expert_group, topk_group, best=2), topk)
    weights = selection.sigmoid_weights(gating_output, ids, renormalize=renormalize, factor=routed_scaling_factor)
    return weights, ids


def _backward(saved, cotangents, *, implementation, renormalize, routed_scaling_factor, **_):
    weights = functools.partial(selection.sigmoid_weights, renormalize=renormalize, factor=routed_scaling_factor)
    gating = selection.pull_back(weights, saved["gating_output"], saved["topk_ids"], cotangents["topk_weights"])
    return {"gating_output": gating, "correction_bias": None}  # the bias only selects: its true derivative is zero


BIASED_GROUPED_TOPK = Op(
    name="biased_grouped_topk",
    family="MOE",
    mirrors="aiter.biased_grouped_topk (aiter/ops/topk.py)",
    operands={"gating_output": Arg("T E"), "correction_bias": Arg("E")},
    results={"topk_weights": "T k", "topk_ids": "T k"},
    abstract=_abstract,
    reference=_reference,
    parallel=("T",),
    fold="T",
    gradient=Gradient(
        wrt=("gating_output", "correction_bias"),
        saves=("gating_output", "correction_bias", "topk_ids"),  # the bias decides which experts have a derivative
        backward=_backward,
    ),
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
      implementation: None (auto), ``"asm"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``topk_weights`` float32 ``[T, topk]`` and ``topk_ids`` int32 ``[T, topk]``, by biased score, best first, among equals the
      lowest id first. Differentiable in `gating_output`; the derivative in `correction_bias` is zero, as the bias only selects.

    Mirrors ``aiter.biased_grouped_topk``.
    """
    name = "biased_grouped_topk"
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
    return weights, ids
