"""Which keys sparse attention looks at: scores over the paged index cache, then the largest of each token (DeepSeek-V3.2)."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.ops.indexer.fp8_paged_mqa_logits import fp8_paged_mqa_logits, rows
from jax_aiter.ops.indexer.top_k_per_row_prefill import top_k_per_row_prefill


@public
def sparse_attn_indexer(
    q: jax.Array,
    kv_cache: jax.Array,
    weights: jax.Array,
    block_tables: jax.Array,
    context_lens: jax.Array,
    *,
    topk: int = 2048,
    cu_seqlens_q: jax.Array | None = None,
    stable: bool = False,
    preshuffle: bool = False,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """The `topk` keys of each token's sequence with the largest `fp8_paged_mqa_logits`.

    Args:
      q, kv_cache, weights, block_tables, context_lens, cu_seqlens_q: as `fp8_paged_mqa_logits` takes them.
      topk: static, >= 1.
      stable: static; see `top_k_per_row_prefill`.
      preshuffle: static; see `fp8_paged_mqa_logits`.
      implementation: of both ops: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: one of AITER's hand-written kernels for the selection; see `top_k_per_row_prefill`.

    Returns:
      int32 ``[T, topk]`` positions of keys in the token's sequence; a token that sees fewer keys has all of them, then -1.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``sparse_attn_indexer`` of vLLM, over ``aiter``'s paged MQA logits and ``aiter.top_k_per_row_prefill``.
    """
    topk = check.integer("sparse_attn_indexer", "topk", topk, 1)
    options = {"cu_seqlens_q": cu_seqlens_q, "preshuffle": preshuffle, "implementation": implementation}
    logits = fp8_paged_mqa_logits(q, kv_cache, weights, block_tables, context_lens, **options)
    _, ends = rows(logits.shape[0], logits.shape[1], context_lens, cu_seqlens_q)
    starts = jnp.zeros_like(ends)
    return top_k_per_row_prefill(logits, starts, ends, k=topk, stable=stable, implementation=implementation, kernel=kernel)
