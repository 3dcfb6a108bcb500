"""The routing as AITER's MoE kernels read it: moe_sorting's lists, packed into two buffers, from a handful of XLA kernels.

Two ways, which one is measured (docs/asm-moe-steps.md). Both avoid loops, which XLA launches step by step, and turn prefix sums and
searches into comparisons of all against all that it fuses with their sums: no [n, n] array exists.

* up to `FEW` entries each one's place is the number of entries before it, counted: 3 or 4 kernels.
* more are sorted by one integer key, and every row of the result looks its entry up: 8 to 10 kernels, more where XLA's sort of
  many keys takes several.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jax_aiter.ops.moe.forms import groups
from jax_aiter.ops.moe.moe_sorting import SLOT_SHIFT

FEW = 256
SEP_OFFSET = 4  # entries of BLOCKS before the experts
PLAIN_PADDING = 4  # entries behind an unsorted routing


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

    Returns:
      ROWS: int32 ``[2, blocks·block]``: ``token | slot << 24``, at padding token T; and the bits of the weights, 0 at padding.
      BLOCKS: int32 ``[4 + blocks]``: rows in use, T, two of nothing; then the (local) expert of each block, of unused ones any.

    Entries whose id names no expert held here are left out.
    """
    tokens, topk = topk_ids.shape
    ids = groups.local_ids(topk_ids, experts, expert_mask, num_local_tokens).reshape(-1)
    place = _counted if ids.size <= FEW else _sorted
    packed = jnp.arange(ids.size, dtype=jnp.int32)
    packed = packed // topk | (packed % topk) << SLOT_SHIFT
    rows, last = place(ids, packed, topk_weight.reshape(-1), experts, block, blocks, topk << SLOT_SHIFT | tokens)
    head = jnp.stack([last[-1] * block, jnp.int32(tokens), jnp.int32(0), jnp.int32(0)])
    return {"ROWS": rows, "BLOCKS": jnp.concatenate([head, _expert_of(blocks, last)])}


def _expert_of(blocks: int, last: jax.Array) -> jax.Array:
    """int32 [blocks]: the expert of each block, given the number of blocks up to and with each expert."""
    number = jnp.arange(blocks, dtype=jnp.int32)
    found = jnp.sum(last[None, :] <= number[:, None], axis=1, dtype=jnp.int32)
    return jnp.minimum(found, last.shape[0] - 1)


def _last_block(counts: jax.Array, block: int) -> tuple[jax.Array, jax.Array]:
    """Blocks of each expert, and their running sum."""
    used = (counts + block - 1) // block
    number = jnp.arange(counts.shape[0], dtype=jnp.int32)
    return used, jnp.sum(jnp.where(number[None, :] <= number[:, None], used[None, :], 0), axis=1)


def _counted(ids, packed, weights, experts, block, blocks, nothing):
    """Each entry goes to its expert's first row plus the number of its entries before it."""
    entries, rows = ids.shape[0], blocks * block
    number = jnp.arange(entries, dtype=jnp.int32)
    # Ranks of the entries and, behind them, totals of the experts: one comparison, so one kernel.
    whose = jnp.concatenate([ids, jnp.arange(experts, dtype=jnp.int32)])
    before = jnp.concatenate([number, jnp.full(experts, entries, jnp.int32)])
    counts = jnp.sum((ids[None, :] == whose[:, None]) & (number[None, :] < before[:, None]), axis=1, dtype=jnp.int32)
    used, last = _last_block(counts[entries:], block)
    row = (last - used)[jnp.maximum(ids, 0)] * block + counts[:entries]
    valid, behind = ids >= 0, 2 * rows + number  # where nothing is: dropped
    target = jnp.concatenate([jnp.where(valid, row, behind), jnp.where(valid, row + rows, behind + entries)])
    values = jnp.concatenate([packed, jax.lax.bitcast_convert_type(weights, jnp.int32)])
    start = jnp.concatenate([jnp.full(rows, nothing, jnp.int32), jnp.zeros(rows, jnp.int32)])
    return start.at[target].set(values, mode="drop", unique_indices=True).reshape(2, rows), last


def _sorted(ids, packed, weights, experts, block, blocks, nothing):
    """Each row finds its entry in the sorted list."""
    order, experts_in_order = groups.by_expert(ids, experts)
    number = jnp.arange(experts + 1, dtype=jnp.int32)
    first = jnp.sum(experts_in_order[None, :] < number[:, None], axis=1, dtype=jnp.int32)
    counts = first[1:] - first[:-1]
    used, last = _last_block(counts, block)
    row = jnp.arange(blocks * block, dtype=jnp.int32)
    expert = _expert_of(blocks, last)[row // block]
    offset = row - (last - used)[expert] * block
    filled = (row < last[-1] * block) & (offset < counts[expert])
    entry = order[jnp.minimum(first[expert] + offset, ids.shape[0] - 1)]
    bits = jax.lax.bitcast_convert_type(weights, jnp.int32)[entry]
    return jnp.stack([jnp.where(filled, packed[entry], nothing), jnp.where(filled, bits, 0)]), last


def plain_routing(
    topk_ids: jax.Array,
    topk_weight: jax.Array,
    experts: int,
    expert_mask: jax.Array | None = None,
    num_local_tokens: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """The routing for kernels that take it unsorted: STP int32 and SW float32 ``[T·k + 4]``.

    What names no expert held here has weight 0. The last entries are there to be read: the kernels load four at a time.
    """
    ids = groups.local_ids(topk_ids, experts, expert_mask, num_local_tokens).reshape(-1)
    weights = jnp.where(ids >= 0, topk_weight.reshape(-1), 0.0)
    room = (0, PLAIN_PADDING)
    return {"STP": jnp.pad(jnp.maximum(ids, 0), room), "SW": jnp.pad(weights, room)}
