"""Speculative decoding with a key of JAX's."""

import jax

from jax_aiter.bind.public import public
from jax_aiter.ops.sampling import randomness
from jax_aiter.ops.sampling.chain_speculative_sampling_with_uniforms import chain_speculative_sampling_with_uniforms


@public
def chain_speculative_sampling(
    draft_token_ids: jax.Array,
    target_probs: jax.Array,
    key: randomness.Key,
    draft_probs: jax.Array | None = None,
    *,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The draft tokens that the target model keeps, and the token behind them.

    Args:
      draft_token_ids, target_probs, draft_probs, implementation: as `chain_speculative_sampling_with_uniforms` takes them.
      key: of `jax.random`: one for all rows, or ``[B]`` of them, each row's own.

    Returns:
      ``output_token_ids`` int32 ``[B, n + 1]`` and ``num_accepted`` int32 ``[B]``.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``flashinfer.sampling.chain_speculative_sampling``.
    """
    op = "chain_speculative_sampling"
    if draft_token_ids.ndim != 2:
        raise ValueError(f"{op}: draft_token_ids must have 2 dimensions [B n], got shape {draft_token_ids.shape}")
    rows, drafts = draft_token_ids.shape
    uniforms = randomness.draw(op, key, jax.random.uniform, rows, drafts + 1)
    return chain_speculative_sampling_with_uniforms(
        draft_token_ids, target_probs, uniforms, draft_probs, implementation=implementation
    )
