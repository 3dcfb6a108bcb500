"""The most probable token of each row."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.ops.sampling import cut

OP = "greedy_sample"


def first_largest(scores: jax.Array) -> jax.Array:
    """int32 [B]: the lowest id of the largest score; -1 for a row that holds NaN, or nothing above -inf."""
    if scores.shape[1] == 0:
        return jnp.full(scores.shape[0], -1, jnp.int32)
    bad = jnp.any(jnp.isnan(scores), axis=1) | ~jnp.any(scores > -jnp.inf, axis=1)
    return jnp.where(bad, -1, jnp.argmax(jnp.where(bad[:, None], 0, scores), axis=1).astype(jnp.int32))


GREEDY_SAMPLE = Op(
    name=OP,
    family="SAMPLING",
    mirrors="aiter.greedy_sample (aiter/ops/sample.py)",
    operands={"logits": Arg("B V")},
    results={"samples": "B"},
    abstract=lambda dims, *, logits: (jax.ShapeDtypeStruct((dims["B"],), jnp.int32),),
    reference=lambda *, logits: (first_largest(logits),),
    parallel=("B",),
    fold="B",
    cases=lambda: [case("rows", logits=normal(3, 17, dtype=jnp.bfloat16))],
)


@public
def greedy_sample(logits: jax.Array, *, implementation: str | None = None) -> jax.Array:
    """The most probable token of each row; among equals the lowest id.

    Args:
      logits: ``[B, V]`` logits or probabilities, float32, bfloat16 or float16.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      int32 ``[B]``; -1 for a row that holds NaN, or nothing above -inf. Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.greedy_sample``.
    """
    cut.rows_of(OP, "logits", logits)
    (samples,) = GREEDY_SAMPLE(logits=logits, implementation=implementation)
    return samples
