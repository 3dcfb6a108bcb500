"""Top-k routing by sigmoid (Llama 4)."""

import functools

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.cases import case, normal
from jax_aiter.ops.routing import selection
from jax_aiter.ops.routing.router import router


def _choose(*, gating_output, topk, renormalize):
    return selection.select(gating_output.astype(jnp.float32), topk)  # by the logits: the sigmoid saturates, they do not


TOPK_SIGMOID = router(
    "topk_sigmoid",
    mirrors="aiter.topk_sigmoid (aiter/ops/moe_op.py); topk_gating with score_func sigmoid (aiter/ops/topk.py)",
    check=lambda dims, *, topk, renormalize: selection.check_topk("topk_sigmoid", topk, dims["E"]),
    choose=_choose,
    weigh=lambda *, topk, renormalize: functools.partial(selection.sigmoid_weights, renormalize=renormalize),
    cases=lambda: [
        case("llama4", gating_output=normal(4, 16, dtype=jnp.bfloat16), topk=1, renormalize=False),
        case("renorm", gating_output=normal(5, 7), topk=3, renormalize=True),
    ],
)


@public
def topk_sigmoid(
    gating_output: jax.Array, topk: int, *, renormalize: bool = False, implementation: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """The `topk` experts of each token with the largest logits, weighted by the sigmoid of the logit.

    Args:
      gating_output: ``[T, E]`` router logits, float32, bfloat16 or float16.
      topk: static, 1 <= topk <= E.
      renormalize: static; divide each row's weights by their sum (a row whose weights are all zero stays zero).
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``topk_weights`` float32 ``[T, topk]`` and ``topk_ids`` int32 ``[T, topk]``, largest first, among equals the lowest id first.
      Differentiable in `gating_output`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.topk_sigmoid``.
    """
    topk = check.integer("topk_sigmoid", "topk", topk, 1)
    renormalize = check.boolean("topk_sigmoid", "renormalize", renormalize)
    weights, ids = TOPK_SIGMOID(gating_output=gating_output, topk=topk, renormalize=renormalize, implementation=implementation)
    return weights, ids
