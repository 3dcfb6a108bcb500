"""Checks of the static parameters that the attention ops share."""

import math
from typing import Any

import jax
import numpy as np

from jax_aiter.core import check
from jax_aiter.core.text import shown

#: A window of so many tokens ends beyond every sequence; the sum of a position and a larger one would leave int32.
UNBOUNDED = 2**30


def require_array(op: str, name: str, x: Any, ndim: int) -> None:
    """What the public function must know before the record can check the rest."""
    if x is None:
        raise TypeError(f"{op}: {name} is required, got None")
    if not isinstance(x, (jax.Array, np.ndarray)):
        raise TypeError(f"{op}: {name} must be a jax or numpy array, got {type(x).__name__}")
    if x.ndim != ndim:
        raise ValueError(f"{op}: {name} must have {ndim} dimensions, got shape {tuple(x.shape)}")


def softmax_scale(op: str, scale: Any, head_dim: int) -> float:
    """None means 1 / sqrt(head dim)."""
    if scale is None:
        return 1.0 / math.sqrt(max(head_dim, 1))
    return check.real(op, "scale", scale, low=0.0, open_low=True)


def window_pair(op: str, sliding_window: Any) -> tuple[int, int]:
    """(left, right) counts of visible neighbours; -1, None and a count beyond all sequences mean unbounded."""
    if sliding_window is None:
        return (-1, -1)
    if not isinstance(sliding_window, (tuple, list)) or len(sliding_window) != 2:
        raise TypeError(f"{op}: sliding_window must be None or a pair (left, right), got {shown(sliding_window)}")
    left, right = (check.integer(op, "sliding_window", w, -1) for w in sliding_window)
    return (left if left < UNBOUNDED else -1, right if right < UNBOUNDED else -1)


def window_length(op: str, sliding_window: Any) -> int:
    """Number of most recent tokens that a query sees, itself included; 0, None and one beyond all sequences mean all."""
    length = 0 if sliding_window is None else check.integer(op, "sliding_window", sliding_window, 0)
    return length if length < UNBOUNDED else 0


def chunk_size(op: str, attention_chunk_size: Any, causal: bool = True) -> int:
    """Positions per chunk of chunked attention; 0, None and a chunk beyond all sequences mean that there is one."""
    size = 0 if attention_chunk_size is None else check.integer(op, "attention_chunk_size", attention_chunk_size, 0)
    if size and not causal:
        raise ValueError(f"{op}: attention_chunk_size is {size} with causal=False, must be None or 0: chunked attention is causal")
    return size if size < UNBOUNDED else 0


def no_dropout(op: str, dropout: Any) -> None:
    if check.real(op, "dropout", dropout, low=0.0) != 0.0:
        raise ValueError(f"{op}: dropout must be 0.0, got {dropout}; dropout of attention probabilities is not supported")


def slopes_per_sequence(op: str, alibi_slopes: Any) -> bool:
    """Whether ALiBi slopes come as [B, Hq] rather than [Hq]; the record checks the sizes."""
    return alibi_slopes is not None and getattr(alibi_slopes, "ndim", 1) == 2


def group_size(op: str, query_heads: int, kv_heads: int) -> int:
    if query_heads == kv_heads == 0:
        return 1
    if kv_heads == 0 or query_heads % kv_heads:
        raise ValueError(f"{op}: the number of query heads is {query_heads}, must be a multiple of the {kv_heads} key/value heads")
    return query_heads // kv_heads
