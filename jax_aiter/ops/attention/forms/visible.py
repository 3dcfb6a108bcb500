"""Which keys a query sees, and how their scores are made.

For every mask here (causal, sliding window, chunks, packed sequences, padding) a query sees one contiguous interval of key indices.
So masks are data, two integers per query.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic


class Reach(NamedTuple):
    """What is known of the intervals while tracing: query i sees keys ``i + offset - left .. i + offset + right`` at most.

    left, right: None where there is no such bound.
    """

    offset: int
    left: int | None
    right: int | None


class Keys(NamedTuple):
    """Per query: it sees keys begin <= j < end; `diagonal` is the key index at its own position (ALiBi measures from there).

    They are [Sq], and on a GPU also [N, Sq], an interval for the queries of each sequence.
    """

    begin: jax.Array
    end: jax.Array
    diagonal: jax.Array
    reach: Reach | None = None


@dataclasses.dataclass(frozen=True)
class Scores:
    """How scores come from q and k: ``cap(scale q k) - slope |diagonal - j| + bias``, and a sink: one more score, of no value."""

    scale: float
    soft_cap: float
    slopes: jax.Array | None = None  # [N, Hk, G, Sq or 1]
    bias: jax.Array | None = None  # [Sq, Sk]
    sinks: jax.Array | None = None  # [Hk, G]


def visible_keys(position, first, length, causal: bool, window: tuple[int, int], chunk: int = 0) -> Keys:
    """The interval of a query at `position` of a sequence of `length` keys, which start at index `first`.

    chunk: if not 0, keys before the query's own chunk of so many positions are hidden.
    """
    left, right = window
    right = 0 if causal else right
    begin = first + (jnp.clip(position - left, 0, length) if left >= 0 else jnp.zeros_like(position))
    if chunk:
        begin = jnp.maximum(begin, first + jnp.clip(position // chunk * chunk, 0, length))
    end = first + (jnp.clip(position + right + 1, 0, length) if right >= 0 else length + jnp.zeros_like(position))
    return Keys(begin, end, first + position)


def dense_keys(queries: int, length: int, causal: bool, window: tuple[int, int], chunk: int = 0) -> Keys:
    """Of a whole sequence, whose last query stands at its last key."""
    keys = visible_keys(jnp.arange(queries) + length - queries, 0, length, causal, window, chunk)
    if symbolic.any_symbolic_size(queries, length):
        return keys
    left = [n for n in (window[0] if window[0] >= 0 else None, chunk - 1 if chunk else None) if n is not None]
    right = 0 if causal else window[1] if window[1] >= 0 else None
    return keys._replace(reach=Reach(length - queries, min(left, default=None), right))
