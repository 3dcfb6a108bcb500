"""Probabilities cut by top-k, top-p and min-p, and made to sum to one."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, constant, uniform
from jax_aiter.ops.sampling import cut

OP = "renorm_probs"


def _reference(*, probs, top_k, top_p, min_p, filter_apply_order):
    left, bad = cut.kept(probs, top_k, top_p, min_p, filter_apply_order)
    total = jnp.sum(left, axis=1, keepdims=True)
    return (jnp.where(bad[:, None], jnp.nan, left / jnp.where(total == 0, 1.0, total)),)


RENORM_PROBS = Op(
    name=OP,
    family="SAMPLING",
    mirrors="aiter.ops.sampling.top_k_renorm_probs (csrc/cpp_itfs/sampling/sampling.cuh)",
    operands={"probs": Arg("B V"), **cut.CUTS},
    results={"renormed": "B V"},
    abstract=lambda dims, *, probs, **_: (jax.ShapeDtypeStruct(probs.shape, jnp.float32),),
    reference=_reference,
    parallel=("B",),
    fold="B",
    cases=lambda: [
        case(
            "joint",
            probs=uniform(3, 12, high=0.2),
            top_k=constant([4, 1, 12], "int32"),
            top_p=constant([0.5, 0.9, 0.3], "float32"),
            filter_apply_order="joint",
        ),
        case(
            "all_three",
            probs=uniform(2, 9, high=0.2, dtype=jnp.bfloat16),
            top_k=constant([5, 0], "int32"),
            top_p=constant([0.75, 0.5], "float32"),
            min_p=constant([0.1, 0.4], "float32"),
            filter_apply_order="top_k_first",
        ),
    ],
)


@public
def renorm_probs(
    probs: jax.Array,
    *,
    top_k: jax.Array | int | None = None,
    top_p: jax.Array | float | None = None,
    min_p: jax.Array | float | None = None,
    filter_apply_order: str = "joint",
    implementation: str | None = None,
) -> jax.Array:
    """The probabilities of each row that top-k, top-p and min-p leave, divided by their sum; zero elsewhere.

    Args:
      probs: ``[B, V]``, float32, bfloat16 or float16; negative ones count as zero. They need not sum to one.
      top_k: int32 ``[B]`` or one int: kept are tokens with fewer than k more probable ones. Outside [1, V]: all.
      top_p: float32 ``[B]`` or one number in [0, 1], a probability: kept are tokens whose more probable ones sum to less, the most
        probable ones always. From 1 on: all.
      min_p: float32 ``[B]`` or one number in [0, 1]: kept are tokens of at least min_p times the largest probability.
      filter_apply_order: static. ``"joint"``, as AITER does it: top_p counts the probabilities as given, whatever top_k leaves.
        ``"top_k_first"``: it counts them as renormalised after top_k. min_p means the same in both.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      float32 ``[B, V]``. Tokens of one probability are kept or dropped together, in every rule. A row that holds NaN, or has one
      for its top_p or min_p, is NaN; a row of zeros stays zero. Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.sampling.top_k_renorm_probs``.
    """
    rows = cut.rows_of(OP, "probs", probs)
    (renormed,) = RENORM_PROBS(
        probs=probs,
        top_k=cut.per_row(OP, "top_k", top_k, rows),
        top_p=cut.per_row(OP, "top_p", top_p, rows),
        min_p=cut.per_row(OP, "min_p", min_p, rows),
        filter_apply_order=cut.order(OP, filter_apply_order),
        implementation=implementation,
    )
    return renormed


@public
def top_k_renorm_probs(probs: jax.Array, top_k: jax.Array | int, *, implementation: str | None = None) -> jax.Array:
    """`renorm_probs` by `top_k` alone: the k most probable tokens.

    Args:
      probs: ``[B, V]``, float32, bfloat16 or float16.
      top_k: ``[B]`` or one number; kept are tokens with fewer than k more probable ones; outside [1, V] all.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      float32 ``[B, V]``; see `renorm_probs` for ties, rows of zeros and NaN.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.sampling.top_k_renorm_probs``.
    """
    return renorm_probs(probs, top_k=top_k, implementation=implementation)


@public
def top_p_renorm_probs(probs: jax.Array, top_p: jax.Array | float, *, implementation: str | None = None) -> jax.Array:
    """`renorm_probs` by `top_p` alone: the most probable tokens that sum to p.

    Args:
      probs: ``[B, V]``, float32, bfloat16 or float16.
      top_p: ``[B]`` or one number, a probability; kept are tokens with more probable ones that sum to less; from 1 on all.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      float32 ``[B, V]``; see `renorm_probs` for ties, rows of zeros and NaN.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``flashinfer.sampling.top_p_renorm_probs``.
    """
    return renorm_probs(probs, top_p=top_p, implementation=implementation)


@public
def min_p_renorm_probs(probs: jax.Array, min_p: jax.Array | float, *, implementation: str | None = None) -> jax.Array:
    """`renorm_probs` by `min_p` alone: tokens not much less probable than the first.

    Args:
      probs: ``[B, V]``, float32, bfloat16 or float16.
      min_p: ``[B]`` or one number; kept are tokens with at least min_p times the largest probability.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      float32 ``[B, V]``; see `renorm_probs` for ties, rows of zeros and NaN.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``flashinfer.sampling.min_p_sampling_from_probs (its cut)``.
    """
    return renorm_probs(probs, min_p=min_p, implementation=implementation)
