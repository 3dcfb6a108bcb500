"""Logits of the k most probable tokens."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, normal
from jax_aiter.ops.sampling import cut

OP = "top_k_mask_logits"


def _reference(*, logits, top_k):
    bad = jnp.any(jnp.isnan(logits), axis=1, keepdims=True)
    inside = cut.among_largest(logits, top_k)
    return (jnp.where(bad, jnp.nan, jnp.where(inside, logits, -jnp.inf)).astype(logits.dtype),)


TOP_K_MASK_LOGITS = Op(
    name=OP,
    family="SAMPLING",
    mirrors="flashinfer.sampling.top_k_mask_logits, with the cut of aiter.ops.sampling.top_k_renorm_probs",
    operands={"logits": Arg("B V"), "top_k": Arg("B", INT32)},
    results={"masked": "B V"},
    abstract=lambda dims, *, logits, top_k: (jax.ShapeDtypeStruct(logits.shape, logits.dtype),),
    reference=_reference,
    parallel=("B",),
    fold="B",
    infinite=("masked",),
    cases=lambda: [case("rows", logits=normal(3, 11, dtype=jnp.bfloat16), top_k=constant([4, 1, 0], "int32"))],
)


@public
def top_k_mask_logits(logits: jax.Array, top_k: jax.Array | int, *, implementation: str | None = None) -> jax.Array:
    """The logits of each row with fewer than k larger ones; -inf elsewhere.

    Args:
      logits: ``[B, V]``, float32, bfloat16 or float16.
      top_k: int32 ``[B]`` or one int; outside [1, V] all are kept.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[B, V]`` of the logits' dtype, equal logits kept or dropped together. A row that holds NaN is NaN. Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``flashinfer.sampling.top_k_mask_logits``.
    """
    rows = cut.rows_of(OP, "logits", logits)
    (masked,) = TOP_K_MASK_LOGITS(logits=logits, top_k=cut.per_row(OP, "top_k", top_k, rows), implementation=implementation)
    return masked
