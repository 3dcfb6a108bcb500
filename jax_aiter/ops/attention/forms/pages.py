"""Tiles of queries and pages of a cache, as both forms of attention over them take them: `paged` streams, `gathered` reads once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic


class Queries(NamedTuple):
    """Tiles of queries: q [N, R, Hk, G, D]; a query sees key positions begin <= p < end of sequence [N]; anchor for ALiBi."""

    q: jax.Array
    sequence: jax.Array
    begin: jax.Array  # [N, R]
    end: jax.Array  # [N, R]
    anchor: jax.Array  # [N]


class Pages(NamedTuple):
    """Where keys are.

    lookup: (sequence [N], index of the page in it [N, P]) -> page [N, P], outside [0, total) where there is none.
    read: page [N, P] -> k [N, P, size, Hk, D], v [N, P, size, Hk, Dv], k_scale, v_scale [N, P, size, Hk] or None.
    """

    size: int
    total: int
    per_sequence: int
    lookup: Callable[[jax.Array, jax.Array], jax.Array]
    read: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]]


class Rule(NamedTuple):
    """How results come from products.

    score: (q · k float32 [N, R, Hk, G, keys], key position minus anchor [N, keys]) -> score.
    sinks: float32 [Hk, G] or None.
    value_scale: a number for all values; what sees no key is zero whatever it holds.
    """

    score: Callable[[jax.Array, jax.Array], jax.Array]
    sinks: jax.Array | None = None
    value_scale: jax.Array | float = 1.0


def grouped(queries: Queries, group: int, run: Callable[[Queries], Any]) -> Any:
    """``run`` on `group` tiles after another, the last of them filled up; results have the tiles as their first axis."""
    n = queries.q.shape[0]
    if group == n:
        return run(queries)
    groups = -(-n // group)
    padded = jax.tree.map(lambda x: jnp.pad(x, [(0, groups * group - n)] + [(0, 0)] * (x.ndim - 1)), queries)
    split = jax.tree.map(lambda x: x.reshape(groups, group, *x.shape[1:]), padded)
    out = jax.lax.map(run, split)
    return tuple(x.reshape(groups * group, *x.shape[2:])[:n] for x in out)


def by_key(scale: jax.Array) -> jax.Array:
    """[N, P, size, Hk] -> [N, 1, Hk, 1, keys]."""
    n, _, _, hk = scale.shape
    return scale.reshape(n, -1, hk).swapaxes(1, 2)[:, None, :, None]


def tiles_together(n: Any, fewest: int, most: int) -> Any:
    """How many of n tiles go in one step that may hold `most`; `fewest` where their number is symbolic."""
    return min(most, fewest if symbolic.is_symbolic(n) else max(n, 1))
