"""A token of each row by a uniform number that the caller has drawn."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, constant, uniform
from jax_aiter.ops.sampling import cut

OP = "sampling_with_uniforms"


def _reference(*, probs, uniforms, top_k, top_p, min_p, filter_apply_order):
    left, bad = cut.kept(probs, top_k, top_p, min_p, filter_apply_order)
    return (jnp.where(bad, -1, cut.drawn(left, uniforms)),)


SAMPLING_WITH_UNIFORMS = Op(
    name=OP,
    family="SAMPLING",
    mirrors="aiter.ops.sampling.top_k_top_p_sampling_from_probs (csrc/cpp_itfs/sampling/sampling.cuh)",
    operands={"probs": Arg("B V"), "uniforms": Arg("B", ("float32",)), **cut.CUTS},
    results={"samples": "B"},
    abstract=lambda dims, **_: (jax.ShapeDtypeStruct((dims["B"],), jnp.int32),),
    reference=_reference,
    parallel=("B",),
    fold="B",
    data_checks=lambda *, uniforms, **_: {"0 <= uniforms < 1": ~((uniforms >= 0) & (uniforms < 1))},
    cases=lambda: [
        case("plain", probs=uniform(4, 13, high=0.2), uniforms=uniform(4), filter_apply_order="joint"),
        case(
            "all_three",
            probs=uniform(3, 8, high=0.2, dtype=jnp.bfloat16),
            uniforms=uniform(3),
            top_k=constant([5, 0, 2], "int32"),
            top_p=constant([0.75, 0.5, 0.9], "float32"),
            min_p=constant([0.1, 0.4, 0.0], "float32"),
            filter_apply_order="top_k_first",
        ),
    ],
)


@public
def sampling_with_uniforms(
    probs: jax.Array,
    uniforms: jax.Array,
    *,
    top_k: jax.Array | int | None = None,
    top_p: jax.Array | float | None = None,
    min_p: jax.Array | float | None = None,
    filter_apply_order: str = "joint",
    implementation: str | None = None,
) -> jax.Array:
    """A token of each row, drawn from what top-k, top-p and min-p leave of its probabilities, by a number the caller has drawn.

    Args:
      probs: ``[B, V]``, float32, bfloat16 or float16; negative ones count as zero. They need not sum to one.
      uniforms: float32 ``[B]`` in [0, 1): the token is the one whose share of the kept probabilities, in the order of ids, holds
        it. A step of `jax.random.uniform` is 2**-23: rarer tokens share steps.
      top_k, top_p, min_p, filter_apply_order: as `renorm_probs` takes them.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      int32 ``[B]``; -1 for a row that holds NaN (in its uniform, top_p or min_p too) or has no positive probability. Not
      differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.sampling.top_k_top_p_sampling_from_probs``, whose kernel draws its own numbers (hipRAND).
    """
    rows = cut.rows_of(OP, "probs", probs)
    (samples,) = SAMPLING_WITH_UNIFORMS(
        probs=probs,
        uniforms=uniforms,
        top_k=cut.per_row(OP, "top_k", top_k, rows),
        top_p=cut.per_row(OP, "top_p", top_p, rows),
        min_p=cut.per_row(OP, "min_p", min_p, rows),
        filter_apply_order=cut.order(OP, filter_apply_order),
        implementation=implementation,
    )
    return samples
