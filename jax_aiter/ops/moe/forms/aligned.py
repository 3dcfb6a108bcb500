"""Rows in groups as blocks of equal size, each of one expert, in one batched product: how a GPU computes what a CPU loops over.

Every group is filled up to a multiple of the block, so there are at most ``n // block + E`` blocks, whatever the data says: no loop
ends where a count says, and the host never waits. The price is that each block gets a copy of its expert's weights. So there is
another way, every expert for every row (`dense`), and which one is taken follows from what each must compute and move:

    blocks:  B · (2·block / BALANCE + COPIES · s)        of E · (2·T / BALANCE + s) for dense,

in units of one expert's elements, with s bytes per element, B blocks and T rows that each expert would compute. An expert's copy is
gathered (read and written) and read by the product. The block is the power of two for which the left side is least.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic
from jax_aiter.ops.moe.forms.groups import Groups, Rows
from jax_aiter.ops.shared.running_sum import running_sum
from jax_aiter.ops.shared.search import at_or_before

BALANCE = 160  # FLOP per byte at which a matrix unit and the memory are equally busy: 700 TF/s over 4.4 TB/s, H200 and MI300X alike
COPIES = 3
NAME = "blocks of one expert's rows in one batched product"
BYTES = 2 << 30  # of weights copied, or of their gradients' parts, at a time
SIZES = tuple(2**n for n in range(3, 11))


def cost(rows: Any, experts: Any, block: int, itemsize: float, copies: int = COPIES) -> float:
    """See above."""
    return count(rows, experts, block) * (2 * block / BALANCE + copies * itemsize)


def dense_cost(rows: Any, experts: Any, itemsize: float) -> float:
    return experts * (2 * rows / BALANCE + itemsize)


def count(rows: Any, experts: Any, block: int) -> Any:
    """Blocks that are enough for every distribution of the rows."""
    if symbolic.any_symbolic_size(rows, experts):
        return rows // block + experts
    return rows // block + min(experts, rows)


def block_size(rows: Any, experts: Any, itemsize: float = 2, copies: int = COPIES) -> int:
    if symbolic.any_symbolic_size(rows, experts):
        return 32
    return min(SIZES, key=lambda size: cost(rows, experts, size, itemsize, copies))


class Blocks(NamedTuple):
    """Per block its expert [B] and rows [B, block]; and of each sorted row, its place among the rows of all blocks."""

    expert: jax.Array
    rows: Rows
    place: jax.Array


def blocks(groups: Groups, block: int) -> Blocks:
    n, experts = groups.order.shape[0], groups.first.shape[0]
    own = (groups.counts + block - 1) // block
    ends = running_sum(own)
    starts = ends - own
    number = jnp.arange(count(n, experts, block), dtype=jnp.int32)
    expert = jnp.minimum(at_or_before(ends, number), experts - 1)
    first = groups.first[expert] + (number - starts[expert]) * block
    row = first[:, None] + jnp.arange(block, dtype=jnp.int32)
    valid = (number < ends[-1])[:, None] & (row < (groups.first + groups.counts)[expert][:, None])
    entry = groups.order[jnp.clip(row, 0, n - 1)]
    sorted_row = jnp.arange(n, dtype=jnp.int32)
    mine = jnp.minimum(at_or_before(groups.first + groups.counts, sorted_row), experts - 1)
    place = starts[mine] * block + sorted_row - groups.first[mine]
    return Blocks(expert, Rows(first, entry, valid), jnp.clip(place, 0, number.shape[0] * block - 1))


def _each(found: Blocks, together: Any, run: Callable[[Any, Any, Any], tuple[Any, Any]], carry: Any) -> tuple[Any, Any]:
    """Fold ``run(experts, rows, carry) -> (carry, results)`` over the blocks, `together` at a time; results by block."""
    total, parts = found.expert.shape[0], (found.expert, found.rows)
    if not symbolic.is_symbolic(total) and together >= total:
        return run(*parts, carry)
    steps = -(-total // together)
    split = jax.tree.map(lambda x: _split(x, steps, together), parts)
    carry, out = jax.lax.scan(lambda carry, part: run(part[0], part[1], carry), carry, split)
    return carry, jax.tree.map(lambda x: x.reshape(steps * together, *x.shape[2:])[:total], out)


def _split(x: jax.Array, steps: Any, together: Any) -> jax.Array:
    """Filled up with blocks of zeros, which have no valid row."""
    padded = jnp.pad(x, [(0, steps * together - x.shape[0])] + [(0, 0)] * (x.ndim - 1))
    return padded.reshape(steps, together, *x.shape[1:])


def _together(loaded_bytes: Any) -> int:
    return 1 if symbolic.is_symbolic(loaded_bytes) else max(1, BYTES // max(1, loaded_bytes))


def sorted_rows(groups: Groups, block: int, load: Callable, compute: Callable[[Any, Rows], Any], loaded_bytes: Any) -> Any:
    """``compute(load(expert), rows)``, arrays ``[block, ...]``, of every block; joined in the order of the sorted rows.

    loaded_bytes: what `load` copies for one block. Rows of nobody are those of some other row.
    """
    found = blocks(groups, block)

    def run(expert, rows, carry):
        return carry, jax.vmap(lambda e, r: compute(load(e), r))(expert, rows)

    _, out = _each(found, _together(loaded_bytes), run, ())
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[found.place], out)


def folded(groups: Groups, block: int, load: Callable, compute: Callable[[Any, Rows], tuple[Any, Any]], loaded_bytes: Any):
    """As `sorted_rows` of a function that gives two results; the second, of any shape, is summed in float32 per expert."""
    found, experts = blocks(groups, block), groups.first.shape[0]

    def each(expert, rows):
        return jax.vmap(lambda e, r: compute(load(e), r))(expert, rows)

    def run(expert, rows, sums):
        out, parts = each(expert, rows)
        return jax.tree.map(lambda s, x: s.at[expert].add(x.astype(jnp.float32)), sums, parts), out

    one = jax.tree.map(lambda x: x[:1], (found.expert, found.rows))
    shapes = jax.eval_shape(each, *one)[1]
    sums = jax.tree.map(lambda x: jnp.zeros((experts, *x.shape[1:]), jnp.float32), shapes)
    sums, out = _each(found, _together(loaded_bytes), run, sums)
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[found.place], out), sums
