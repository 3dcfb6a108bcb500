"""A function of each block of rows of one expert, over all rows: a loop on a CPU (`groups`), one batch on a GPU (`aligned`)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import machine
from jax_aiter.ops.moe.forms import aligned
from jax_aiter.ops.moe.forms.groups import Groups, Rows, block_rows, over_experts


def over_rows(
    groups: Groups, load: Callable, compute: Callable[[Any, Rows], jax.Array], width: Any, loaded_bytes: Any, itemsize: float = 2
) -> jax.Array:
    """float32 ``[n or more, width]`` in sorted order: ``compute(load(expert), rows)`` of every block; rows of nobody hold anything.

    loaded_bytes: what `load` reads for an expert, of elements of `itemsize` bytes.
    """
    n, experts = groups.order.shape[0], groups.first.shape[0]
    if machine.is_gpu() and 0 not in (n, experts):
        return aligned.sorted_rows(groups, aligned.block_size(n, experts, itemsize), load, compute, loaded_bytes)
    block = block_rows(n, experts)

    def step(loaded, rows, total, out):
        # Blocks come in order: what one writes behind its expert's last row is written over by the next expert's.
        return total, jax.lax.dynamic_update_slice(out, compute(loaded, rows), (rows.start, 0))

    return over_experts(groups, block, load, step, jnp.zeros((n + block, width), jnp.float32))


def longest_block(rows: Any, experts: Any, itemsize: float = 2) -> int:
    """As many rows as a block of `over_rows` may have."""
    return aligned.block_size(rows, experts, itemsize) if machine.is_gpu() else block_rows(rows, experts)


def bytes_of(*weights: Any) -> Any:
    """What one expert has of stacked arrays, those that there are."""
    total: Any = 0
    for w in weights:
        if w is not None:
            size: Any = w.dtype.itemsize
            for n in w.shape[1:]:
                size = size * n
            total = total + size
    return total
