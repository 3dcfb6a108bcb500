"""A token of each row by a race of exponentials that the caller has drawn; the most probable one where the temperature is zero."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, constant, normal, uniform
from jax_aiter.ops.sampling import cut
from jax_aiter.ops.sampling.greedy_sample import first_largest

OP = "mixed_sample_outer_exponential"
COLDEST = 1e-5  # as AITER's kernel has it


def _reference(*, logits, exponentials, temperature, eps):
    warm = logits.astype(jnp.float32) / jnp.maximum(temperature, COLDEST)[:, None]
    top = jnp.max(warm, axis=1, keepdims=True, initial=-jnp.inf)
    scores = jnp.exp(warm - jnp.where(jnp.isfinite(top), top, 0.0)) / (exponentials + eps)
    # What has no probability never wins.
    raced = first_largest(jnp.where(scores == 0, -jnp.inf, scores))
    chosen = jnp.where(temperature == 0, first_largest(logits), raced)
    return (jnp.where(jnp.isnan(temperature), -1, chosen),)


MIXED_SAMPLE_OUTER_EXPONENTIAL = Op(
    name=OP,
    family="SAMPLING",
    mirrors="aiter.mixed_sample_outer_exponential (aiter/ops/sample.py)",
    operands={"logits": Arg("B V"), "exponentials": Arg("B V", ("float32",)), "temperature": Arg("B", ("float32",))},
    results={"samples": "B"},
    abstract=lambda dims, **_: (jax.ShapeDtypeStruct((dims["B"],), jnp.int32),),
    reference=_reference,
    parallel=("B",),
    fold="B",
    data_checks=lambda *, temperature, exponentials, **_: {
        "temperature must be >= 0": ~(temperature >= 0),
        "exponentials must be >= 0": ~(exponentials >= 0),
    },
    cases=lambda: [
        case(
            "rows",
            logits=normal(4, 9),
            exponentials=uniform(4, 9, low=0.01, high=3.0),
            temperature=constant([1.0, 0.0, 0.5, 2.0], "float32"),
            eps=1e-10,
        ),
    ],
)


@public
def mixed_sample_outer_exponential(
    logits: jax.Array,
    exponentials: jax.Array,
    temperature: jax.Array,
    *,
    eps: float = 1e-10,
    implementation: str | None = None,
) -> jax.Array:
    """A token of each row drawn with probability ``softmax(logits / temperature)``, by exponential numbers the caller has drawn.

    The winner is the largest of ``softmax(logits / temperature) / (exponentials + eps)``.

    Args:
      logits: ``[B, V]``, float32, bfloat16 or float16.
      exponentials: float32 ``[B, V]``, independent draws of rate 1 (`jax.random.exponential`).
      temperature: float32 ``[B]``; where it is 0, the most probable token is taken and `exponentials` are not looked at. Below 1e-5
        it counts as 1e-5.
      eps: static, >= 0.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      int32 ``[B]``, among equals the lowest id; -1 for a row that holds NaN, or nothing above -inf. Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.mixed_sample_outer_exponential`` (and ``random_sample_outer_exponential``, which has no temperature of zero).
    """
    cut.rows_of(OP, "logits", logits)
    (samples,) = MIXED_SAMPLE_OUTER_EXPONENTIAL(
        logits=logits,
        exponentials=exponentials,
        temperature=temperature,
        eps=check.real(OP, "eps", eps, low=0.0),
        implementation=implementation,
    )
    return samples
