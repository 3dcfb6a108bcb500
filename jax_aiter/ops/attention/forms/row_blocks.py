"""How `rows` cuts attention into steps: blocks of queries, the keys that each of them can see, and the heads that go together.

All of it is known while tracing, so the program has a fixed number of steps. A step is large: a GPU has thousands of lanes to fill,
and between two steps there is nothing to gain from a cache.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic
from jax_aiter.ops.attention.forms.visible import Reach

# float32 scores of one step: 512 MiB, some 0.2 ms at the memory rate of a current GPU, against which a launch is nothing.
SCORES = 1 << 27
FEWEST = 128  # queries of a step, below which a matrix unit is not filled
# Scores from which blocks of queries that each leave out the keys behind them take less time than one step over all keys.
WORTH_CUTTING = 1 << 24
UNROLLED = 8  # steps of different numbers of keys, each of which is a part of the program of its own


class Run(NamedTuple):
    """Blocks of queries against equally many keys: `count` blocks from `first`, each with `width` keys from its start."""

    first: int
    count: Any
    width: Any
    starts: Sequence[int] | None  # None: all begin at 0


class Cut(NamedTuple):
    """`queries` per block, `heads` (of keys) at a time."""

    queries: int
    heads: int
    runs: tuple[Run, ...]


def cut(heads: Any, per_head: Any, queries: Any, keys: Any, reach: Reach | None) -> Cut:
    """heads: of keys, of all sequences; per_head: query heads that share one."""
    if symbolic.is_symbolic(queries):
        return Cut(FEWEST, heads, (Run(0, -(-queries // FEWEST), keys, None),))
    if symbolic.any_symbolic_size(heads, per_head, keys):
        size = min(queries, FEWEST)
        return Cut(size, heads, (Run(0, -(-queries // size), keys, None),))
    size = _queries(heads * per_head, queries, keys, reach)
    runs = tuple(_runs(size, queries, keys, reach))
    most = max(1, SCORES // (per_head * size * max(run.width for run in runs)))
    return Cut(size, next(n for n in range(min(heads, most), 0, -1) if heads % n == 0), runs)


def _queries(heads: int, queries: int, keys: int, reach: Reach | None) -> int:
    """Queries per block, equal but for the last."""
    left, right = (None, None) if reach is None else reach[1:]
    window = left + right if left is not None and right is not None else None

    def scores(size: int) -> int:
        return heads * size * (keys if window is None else min(keys, size + window))

    sizes = [queries, *(2**n for n in range(14, -1, -1) if FEWEST <= 2**n < queries)]
    size = next((n for n in sizes if scores(n) <= SCORES), min(queries, FEWEST))
    if (left, right) != (None, None) and heads * queries * keys > WORTH_CUTTING:
        # Blocks as long as a window compute twice what they must; UNROLLED blocks of a triangle 9/16 of the square.
        size = min(size, max(FEWEST, -(-queries // UNROLLED) if window is None else window))
    blocks = -(-queries // size)
    return queries if blocks == 1 else -(-queries // (8 * blocks)) * 8


def _runs(size: int, queries: int, keys: int, reach: Reach | None):
    blocks = -(-queries // size)
    offset, left, right = reach if reach is not None else (0, None, None)

    def sees(block: int) -> tuple[int, int]:
        first, last = block * size + offset, min(queries, (block + 1) * size) - 1 + offset
        low = 0 if left is None else min(max(first - left, 0), keys)
        return low, keys if right is None else min(max(last + right + 1, low), keys)

    spans = [sees(block) for block in range(blocks)]
    widths = [high - low for low, high in spans]
    even = max(widths) * blocks <= 1.25 * sum(widths)
    per_run = 1 if blocks <= UNROLLED else blocks if even else -(-blocks // UNROLLED)
    for first in range(0, blocks, per_run):
        width = max(1, *widths[first : first + per_run])
        starts = [min(low, keys - width) for low, _ in spans[first : first + per_run]]
        yield Run(first, len(starts), width, starts if any(starts) else None)


Body = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


def over(plan: Cut, body: Body, carry: Any) -> tuple[Any, Any]:
    """Fold ``body(block, first key, number of keys, carry) -> (carry, results)``; results ``[..., queries, D]`` joined along -2."""
    parts = []
    for run in plan.runs:
        if not symbolic.is_symbolic(run.count) and run.count == 1:
            carry, out = body(run.first, run.starts[0] if run.starts else 0, run.width, carry)
            parts.append(out)
            continue
        starts = None if run.starts is None else jnp.asarray(run.starts, jnp.int32)

        def step(carry, at, width=run.width):
            block, start = at
            return body(block, 0 if start is None else start, width, carry)

        carry, out = jax.lax.scan(step, carry, (run.first + jnp.arange(run.count, dtype=jnp.int32), starts))
        parts.append(jax.tree.map(_join, out))
    return carry, parts[0] if len(parts) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x, axis=-2), *parts)


def _join(x: jax.Array) -> jax.Array:
    """[blocks, ..., queries, D] -> [..., blocks * queries, D]."""
    moved = jnp.moveaxis(x, 0, -3)
    return moved.reshape(*moved.shape[:-3], moved.shape[-3] * moved.shape[-2], moved.shape[-1])


def by_heads(plan: Cut, total: Any, run: Callable[[Any, Any], tuple[Any, Any]], arrays: Any, carry: Any) -> tuple[Any, Any]:
    """Fold ``run(arrays, carry) -> (carry, results)`` over the heads, which are axis 0 of all arrays and results."""
    if symbolic.is_symbolic(total) or plan.heads == total:
        return run(arrays, carry)
    split = jax.tree.map(lambda x: x.reshape(total // plan.heads, plan.heads, *x.shape[1:]), arrays)
    carry, out = jax.lax.scan(lambda carry, part: run(part, carry), carry, split)
    return carry, jax.tree.map(lambda x: x.reshape(total, *x.shape[2:]), out)
