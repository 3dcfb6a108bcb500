"""Top-k routing by softmax (Mixtral, Qwen3-MoE, OLMoE)."""

import functools

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.cases import case, normal
from jax_aiter.ops.routing import selection, shared
from jax_aiter.ops.routing.router import router

SCORING = ("", "sigmoid")


def _choose(*, gating_output, topk, renormalize):
    # Softmax is monotone: choosing by the logits keeps the order also where probabilities underflow to equal zeros.
    return selection.select(gating_output.astype(jnp.float32), topk)


TOPK_SOFTMAX = router(
    "topk_softmax",
    mirrors="aiter.topk_softmax, aiter.topk_softmax_asm (aiter/ops/moe_op.py)",
    check=lambda dims, *, topk, renormalize: selection.check_topk("topk_softmax", topk, dims["E"]),
    choose=_choose,
    weigh=lambda *, topk, renormalize: functools.partial(selection.softmax_weights, renormalize=renormalize),
    cases=lambda: [
        case("mixtral", gating_output=normal(6, 8), topk=2, renormalize=True),
        case("no_renorm", gating_output=normal(3, 128, dtype=jnp.bfloat16), topk=8, renormalize=False),
        case("one", gating_output=normal(1, 5, dtype=jnp.float16), topk=1, renormalize=False),
    ],
)


@public
def topk_softmax(
    gating_output: jax.Array,
    topk: int,
    *,
    renormalize: bool = True,
    num_shared_experts: int = 0,
    shared_expert_scoring_func: str = "",
    implementation: str | None = None,
    kernel: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The `topk` most probable experts of each token and their softmax probabilities.

    Args:
      gating_output: ``[T, E]`` router logits, float32, bfloat16 or float16; with `num_shared_experts` = S ``[T, E + S]``.
      topk: static, 1 <= topk <= E.
      renormalize: static; divide each row's weights by their sum.
      num_shared_experts: static; S experts that every token takes get slots of their own behind the chosen ones.
      shared_expert_scoring_func: static; how the last S columns of `gating_output` weigh them: ``"sigmoid"``, or ``""`` for a
        weight of 1 each, whatever the columns hold.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: run this one of AITER's hand-written kernels (its symbol or the name of its code object).

    Returns:
      ``topk_weights`` float32 ``[T, topk]`` and ``topk_ids`` int32 ``[T, topk]``, most probable first; among equals the lowest
      id comes first. The softmax is taken in float32 over all E. Differentiable in `gating_output`. A row that holds NaN gives ids
      in [0, E) and NaN weights. With shared experts ``[T, topk + S]``: the last S ids are E, E + 1, ..., the numbers of experts
      whose weights are appended to the others' (`fused_moe`); `renormalize` leaves their weights alone.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.topk_softmax`` and ``aiter.topk_softmax_asm``.
    """
    topk = check.integer("topk_softmax", "topk", topk, 1)
    renormalize = check.boolean("topk_softmax", "renormalize", renormalize)
    count = check.integer("topk_softmax", "num_shared_experts", num_shared_experts, 0)
    check.choice("topk_softmax", "shared_expert_scoring_func", shared_expert_scoring_func, SCORING)
    gating_output, shared_logits = shared.split("topk_softmax", gating_output, count) if count else (gating_output, None)
    weights, ids = TOPK_SOFTMAX(
        gating_output=gating_output, topk=topk, renormalize=renormalize, implementation=implementation, kernel=kernel
    )
    if shared_logits is None:
        return weights, ids
    given = jax.nn.sigmoid(shared_logits.astype(jnp.float32))
    own = given if shared_expert_scoring_func == "sigmoid" else shared.constant(weights, count, 1.0)
    return shared.append(weights, ids, gating_output.shape[1], own)
