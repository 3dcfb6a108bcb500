"""Top-k routing by the square root of a softplus (DeepSeek-V4), sigmoid or softmax, with a bias that takes part in the choice."""

import functools

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.ops.routing import selection
from jax_aiter.ops.routing.router import router

NAME = "topk_gating"
#: Below it, softplus is its argument's exponential to less than a rounding of float32.
LOW = -17.0


def sqrt_softplus(x: jax.Array) -> jax.Array:
    """``sqrt(log(1 + exp(x)))``, which for a low x is ``exp(x / 2)``: a root of what underflows has no derivative."""
    return jnp.where(x < LOW, jnp.exp(0.5 * x), jnp.sqrt(jax.nn.softplus(jnp.maximum(x, LOW))))


def _scores(logits: jax.Array, score_func: str) -> jax.Array:
    if score_func == "softmax":
        return jax.nn.softmax(logits, axis=-1)
    return sqrt_softplus(logits) if score_func == "sqrtsoftplus" else jax.nn.sigmoid(logits)


def _choose(*, gating_output, correction_bias, topk, need_renorm, routed_scaling_factor, score_func):
    logits = gating_output.astype(jnp.float32)
    if correction_bias is None:  # by the logits: scores may saturate, they do not
        return selection.select(logits, topk)
    return selection.select(_scores(logits, score_func) + correction_bias.astype(jnp.float32), topk)


def _weights(gating, ids, *, need_renorm, routed_scaling_factor, score_func):
    if score_func == "softmax":
        return selection.softmax_weights(gating, ids, renormalize=need_renorm, factor=routed_scaling_factor)
    chosen = jnp.take_along_axis(gating.astype(jnp.float32), ids, axis=-1)
    return selection.normalize(_scores(chosen, score_func), need_renorm, routed_scaling_factor)


TOPK_GATING = router(
    NAME,
    mirrors="aiter.topk_gating (aiter/ops/topk.py)",
    check=lambda dims, *, topk, **_: selection.check_topk(NAME, topk, dims["E"]),
    choose=_choose,
    weigh=lambda *, topk, **how: functools.partial(_weights, **how),
    operands={"gating_output": Arg("T E"), "correction_bias": Arg("E", optional=True)},
    decides=("correction_bias",),
    cases=lambda: [
        case(
            "deepseek_v4",
            gating_output=normal(5, 8, dtype=jnp.bfloat16),
            correction_bias=normal(8),
            topk=3,
            need_renorm=True,
            routed_scaling_factor=1.5,
            score_func="sqrtsoftplus",
        ),
        case("sigmoid", gating_output=normal(4, 7), topk=2, need_renorm=False, routed_scaling_factor=1.0, score_func="sigmoid"),
    ],
)


@public
def topk_gating(
    gating_output: jax.Array,
    topk: int,
    correction_bias: jax.Array | None = None,
    need_renorm: bool = True,
    routed_scaling_factor: float = 1.0,
    score_func: str = "sqrtsoftplus",
    *,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The `topk` experts of each token with the largest biased scores, weighted by their scores without the bias.

    Args:
      gating_output: ``[T, E]`` router logits, float32, bfloat16 or float16.
      topk: static, 1 <= topk <= E.
      correction_bias: ``[E]`` float, added to the scores that experts are chosen by.
      need_renorm: static; divide each row's weights by their sum (a row whose weights are all zero stays zero).
      routed_scaling_factor: static; the weights are multiplied by it.
      score_func: ``"sqrtsoftplus"`` (DeepSeek-V4: ``sqrt(log(1 + exp(logit)))``), ``"sigmoid"`` or ``"softmax"``.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``topk_weights`` float32 ``[T, topk]`` and ``topk_ids`` int32 ``[T, topk]``, best first, among equals the lowest id first.
      Differentiable in `gating_output`; the derivative in `correction_bias` is zero.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters.
    Mirrors ``aiter.topk_gating`` (``topk_softplus`` in some releases).
    """
    check.choice(NAME, "score_func", score_func, ("sqrtsoftplus", "sigmoid", "softmax"))
    weights, ids = TOPK_GATING(
        gating_output=gating_output,
        correction_bias=correction_bias,
        topk=check.integer(NAME, "topk", topk, 1),
        need_renorm=check.boolean(NAME, "need_renorm", need_renorm),
        routed_scaling_factor=check.real(NAME, "routed_scaling_factor", routed_scaling_factor),
        score_func=score_func,
        implementation=implementation,
    )
    return weights, ids
