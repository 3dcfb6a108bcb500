"""The routing as AITER's MoE kernels read it.

`sort_routing` is moe_sorting's format in few XLA kernels: entries are counted, not sorted. Every step is one comparison of all
against all that XLA fuses with its sum, so no [n, n] array exists, and nothing loops.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jax_aiter.ops import _moe_groups
from jax_aiter.ops.moe_sorting import SLOT_SHIFT


def sort_routing(
    topk_ids: jax.Array,
    topk_weight: jax.Array,
    experts: int,
    block: int,
    blocks: int,
    expert_mask: jax.Array | None = None,
    num_local_tokens: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Entries (token, slot) by expert, each expert's list padded to `block` rows, `blocks` blocks in all.

    Returns STP int32 ``[blocks·block]``, ``token | slot << 24``, padding names token T; SW float32, 0 at padding; SEP int32
    ``[blocks]``, the (local) expert of each block; XC int32 ``[2]``, rows in use and tokens. Entries whose id names no expert held
    here are left out.
    """
    tokens, topk = topk_ids.shape
    n, rows = tokens * topk, blocks * block
    ids = _moe_groups.local_ids(topk_ids, experts, expert_mask, num_local_tokens).reshape(-1)
    groups = _moe_groups.group(ids.reshape(tokens, topk), experts)
    used = (groups.counts + block - 1) // block
    last = jnp.cumsum(used)
    entry = jnp.arange(n, dtype=jnp.int32)
    expert = jnp.clip(ids, 0, experts - 1)
    row = (last - used)[expert] * block + groups.inverse - groups.first[expert]
    row = jnp.where(ids >= 0, row, rows + entry)  # behind the last: dropped
    stp = jnp.full(rows, topk << SLOT_SHIFT | tokens, jnp.int32)
    stp = stp.at[row].set(entry // topk | (entry % topk) << SLOT_SHIFT, mode="drop", unique_indices=True)
    sw = jnp.zeros(rows, jnp.float32).at[row].set(topk_weight.reshape(-1), mode="drop", unique_indices=True)
    number = jnp.arange(blocks, dtype=jnp.int32)
    sep = jnp.sum(last[None, :] <= number[:, None], axis=1, dtype=jnp.int32)
    return {
        "XC": jnp.stack([last[-1] * block, jnp.int32(tokens)]).astype(jnp.int32),
        "STP": stp,
        "SW": sw,
        "SEP": jnp.where(sep < experts, sep, 0),
    }


def plain_routing(
    topk_ids: jax.Array,
    topk_weight: jax.Array,
    experts: int,
    expert_mask: jax.Array | None = None,
    num_local_tokens: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """The unsorted routing for kernels that need no sorting; what names no expert held here has weight 0."""
    ids = _moe_groups.local_ids(topk_ids, experts, expert_mask, num_local_tokens)
    ids, weights = jnp.where(ids >= 0, ids, 0), jnp.where(ids >= 0, topk_weight, 0.0)
    return {"STP": ids, "SW": weights}
