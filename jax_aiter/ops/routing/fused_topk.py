"""Top-k routing under the signature that MoE layers call."""

import functools

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.ops.routing import selection
from jax_aiter.ops.routing.router import router


def _choose(*, hidden_states, router_logits, topk, renormalize):
    return selection.select(router_logits.astype(jnp.float32), topk)


FUSED_TOPK = router(
    "fused_topk",
    mirrors="aiter.fused_moe.fused_topk (aiter/fused_moe.py)",
    operands={"hidden_states": Arg("T D"), "router_logits": Arg("T E")},
    logits="router_logits",
    check=lambda dims, *, topk, renormalize: selection.check_topk("fused_topk", topk, dims["E"], "router_logits"),
    choose=_choose,
    weigh=lambda *, topk, renormalize: functools.partial(selection.softmax_weights, renormalize=renormalize),
    cases=lambda: [
        case("renorm", hidden_states=normal(4, 6), router_logits=normal(4, 8), topk=2, renormalize=True),
        case(
            "no_renorm",
            hidden_states=normal(3, 8, dtype=jnp.bfloat16),
            router_logits=normal(3, 9, dtype=jnp.bfloat16),
            topk=4,
            renormalize=False,
        ),
    ],
)


@public
def fused_topk(
    hidden_states: jax.Array, router_logits: jax.Array, topk: int, *, renormalize: bool, implementation: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """`topk_softmax` of `router_logits`, with a check that there is one row per token.

    Args:
      hidden_states: ``[T, D]``; only its number of rows is used.
      router_logits: ``[T, E]`` float32, bfloat16 or float16.
      topk: static, 1 <= topk <= E.
      renormalize: static; divide each row's weights by their sum.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``topk_weights`` float32 ``[T, topk]`` and ``topk_ids`` int32 ``[T, topk]``, most probable first, among equals the lowest id
      first. Differentiable in `router_logits` (and zero in `hidden_states`).

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.fused_moe.fused_topk``.
    """
    topk = check.integer("fused_topk", "topk", topk, 1)
    renormalize = check.boolean("fused_topk", "renormalize", renormalize)
    weights, ids = FUSED_TOPK(
        hidden_states=hidden_states,
        router_logits=router_logits,
        topk=topk,
        renormalize=renormalize,
        implementation=implementation,
    )
    return weights, ids
