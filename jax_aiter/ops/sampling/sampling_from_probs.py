"""A token of each row, drawn with a key of JAX's."""

import jax

from jax_aiter.bind.public import public
from jax_aiter.ops.sampling import cut, randomness
from jax_aiter.ops.sampling.sampling_with_uniforms import sampling_with_uniforms


@public
def sampling_from_probs(
    probs: jax.Array,
    key: randomness.Key,
    *,
    top_k: jax.Array | int | None = None,
    top_p: jax.Array | float | None = None,
    min_p: jax.Array | float | None = None,
    filter_apply_order: str = "joint",
    implementation: str | None = None,
) -> jax.Array:
    """A token of each row, drawn from what top-k, top-p and min-p leave of its probabilities.

    Args:
      probs: ``[B, V]``, float32, bfloat16 or float16; negative ones count as zero. They need not sum to one.
      key: of `jax.random`: one for all rows, or ``[B]`` of them, each row's own (a request then draws the same whatever its batch).
      top_k, top_p, min_p, filter_apply_order: as `renorm_probs` takes them.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      int32 ``[B]``; -1 for a row that holds NaN or has no positive probability. The same for the same key. Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.sampling.top_k_top_p_sampling_from_probs``.
    """
    rows = cut.rows_of("sampling_from_probs", "probs", probs)
    uniforms = randomness.draw("sampling_from_probs", key, jax.random.uniform, rows)
    return sampling_with_uniforms(
        probs,
        uniforms,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        filter_apply_order=filter_apply_order,
        implementation=implementation,
    )


@public
def top_k_sampling_from_probs(
    probs: jax.Array, key: randomness.Key, top_k: jax.Array | int, *, implementation: str | None = None
) -> jax.Array:
    """`sampling_from_probs` by `top_k` alone: a draw among the k most probable tokens of each row.

    Args:
      probs, key, top_k, implementation: as `sampling_from_probs` takes them.

    Returns:
      int32 ``[B]``, as `sampling_from_probs` gives it.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``flashinfer.sampling.top_k_sampling_from_probs``.
    """
    return sampling_from_probs(probs, key, top_k=top_k, implementation=implementation)


@public
def top_p_sampling_from_probs(
    probs: jax.Array, key: randomness.Key, top_p: jax.Array | float, *, implementation: str | None = None
) -> jax.Array:
    """`sampling_from_probs` by `top_p` alone: a draw among the most probable tokens of each row that sum to p.

    Args:
      probs, key, top_p, implementation: as `sampling_from_probs` takes them.

    Returns:
      int32 ``[B]``, as `sampling_from_probs` gives it.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.sampling.top_p_sampling_from_probs``.
    """
    return sampling_from_probs(probs, key, top_p=top_p, implementation=implementation)


@public
def min_p_sampling_from_probs(
    probs: jax.Array, key: randomness.Key, min_p: jax.Array | float, *, implementation: str | None = None
) -> jax.Array:
    """`sampling_from_probs` by `min_p` alone: a draw among the tokens of each row not much less probable than the first.

    Args:
      probs, key, min_p, implementation: as `sampling_from_probs` takes them.

    Returns:
      int32 ``[B]``, as `sampling_from_probs` gives it.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``flashinfer.sampling.min_p_sampling_from_probs``.
    """
    return sampling_from_probs(probs, key, min_p=min_p, implementation=implementation)


@public
def top_k_top_p_sampling_from_probs(
    probs: jax.Array,
    key: randomness.Key,
    top_k: jax.Array | int,
    top_p: jax.Array | float,
    *,
    filter_apply_order: str = "joint",
    implementation: str | None = None,
) -> jax.Array:
    """`sampling_from_probs` by `top_k` and `top_p`: a draw among the tokens of each row that both leave.

    Args:
      probs, key, top_k, top_p, filter_apply_order, implementation: as `sampling_from_probs` takes them.

    Returns:
      int32 ``[B]``, as `sampling_from_probs` gives it.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.sampling.top_k_top_p_sampling_from_probs``.
    """
    return sampling_from_probs(
        probs, key, top_k=top_k, top_p=top_p, filter_apply_order=filter_apply_order, implementation=implementation
    )
