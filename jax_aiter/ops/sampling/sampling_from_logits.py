"""A token of each row of logits, drawn with a key of JAX's."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.ops.sampling import cut, randomness
from jax_aiter.ops.sampling.mixed_sample_outer_exponential import mixed_sample_outer_exponential
from jax_aiter.ops.sampling.sampling_from_probs import sampling_from_probs


@public
def mixed_sample(
    logits: jax.Array,
    key: randomness.Key,
    temperature: jax.Array | float = 1.0,
    *,
    eps: float = 1e-10,
    implementation: str | None = None,
) -> jax.Array:
    """A token of each row drawn with probability ``softmax(logits / temperature)``; the most probable where that is zero.

    Args:
      logits: ``[B, V]``, float32, bfloat16 or float16.
      key: of `jax.random`: one for all rows, or ``[B]`` of them, each row's own.
      temperature: float32 ``[B]`` or one number >= 0.
      eps, implementation: as `mixed_sample_outer_exponential` takes them, which this is with `jax.random.exponential`.

    Returns:
      int32 ``[B]``; -1 for a row that holds NaN, or nothing above -inf.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.mixed_sample``, whose kernel draws its own numbers (hipRAND).
    """
    op = "mixed_sample"
    rows = cut.rows_of(op, "logits", logits)
    heat = cut.heats(op, temperature, rows)
    numbers = randomness.draw(op, key, jax.random.exponential, rows, logits.shape[1])
    return mixed_sample_outer_exponential(logits, numbers, heat, eps=eps, implementation=implementation)


@public
def sampling_from_logits(
    logits: jax.Array,
    key: randomness.Key,
    *,
    temperature: jax.Array | float = 1.0,
    top_k: jax.Array | int | None = None,
    top_p: jax.Array | float | None = None,
    min_p: jax.Array | float | None = None,
    filter_apply_order: str = "top_k_first",
    implementation: str | None = None,
) -> jax.Array:
    """A token of each row, drawn from what top-k, top-p and min-p leave of ``softmax(logits / temperature)``.

    Args:
      logits: ``[B, V]``, float32, bfloat16 or float16.
      key: of `jax.random`: one for all rows, or ``[B]`` of them, each row's own.
      temperature: float32 ``[B]`` or one number >= 0; where it is 0, the most probable token is taken (the lowest id among equals).
      top_k, top_p, min_p, filter_apply_order: as `renorm_probs` takes them.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      int32 ``[B]``; -1 for a row that holds NaN, or nothing above -inf.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``flashinfer.sampling.top_k_top_p_sampling_from_logits``, and the sampler of vLLM.
    """
    op = "sampling_from_logits"
    rows = cut.rows_of(op, "logits", logits)
    heat = cut.heats(op, temperature, rows)
    scores = logits.astype(jnp.float32)
    cold = (heat == 0)[:, None]
    top = jnp.max(scores, axis=1, keepdims=True, initial=-jnp.inf)
    # Of the most probable tokens the lowest alone: the draw is then it, whatever the number.
    chosen = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)
    chosen = chosen == jnp.min(jnp.where(scores == top, chosen, jnp.int32(2**31 - 1)), axis=1, keepdims=True, initial=2**31 - 1)
    scores = jnp.where(cold, jnp.where(jnp.isnan(top), jnp.nan, jnp.where(chosen, top, -jnp.inf)), scores)
    # The largest is taken off first: any other way a small temperature makes infinities of which softmax makes NaN.
    least = jnp.where(jnp.isfinite(top), top, 0.0)
    probs = jax.nn.softmax((scores - least) / jnp.where(cold, 1.0, heat[:, None]), axis=1)
    return sampling_from_probs(
        probs,
        key,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        filter_apply_order=filter_apply_order,
        implementation=implementation,
    )
