"""What a query of dense or packed attention reads, and what the gradient of a key does: see `core.reads`.

A group is one head of one query (of the results) or one key head of one key (of their gradients).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_aiter.core.reads import NOTHING, Mask, Reads, at, grid, spread, stacked


def interval(position, length, causal: bool, window: tuple[int, int], chunk: int = 0):
    """First key and one past the last that a query at `position` of a sequence of `length` keys sees."""
    left, right = window[0], 0 if causal else window[1]
    begin = np.maximum(position - left, 0) if left >= 0 else 0 * position
    if chunk:
        begin = np.maximum(begin, position // chunk * chunk)
    return begin, np.minimum(position + right + 1, length) if right >= 0 else length + 0 * position


def dense_sees(queries: int, keys: int, causal: bool, window: tuple[int, int], chunk: int = 0) -> Mask:
    """bool [Sq, Sk]."""
    begin, end = interval(np.arange(queries) + keys - queries, keys, causal, window, chunk)
    key = np.arange(keys)
    return (begin[:, None] <= key) & (key < end[:, None])


def packed_sees(
    queries: int, keys: int, cu_q, cu_k, causal: bool, window: tuple[int, int], chunk: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """bool [Tq, Tk], and the sequence of each query, `NOTHING` where it has none."""
    sees, owner = np.zeros((queries, keys), bool), np.full(queries, NOTHING)
    for b, (q0, q1, k0, k1) in enumerate(zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:], strict=True)):
        sees[q0:q1, k0:k1] = dense_sees(q1 - q0, k1 - k0, causal, window, chunk)
        owner[q0:q1] = b
    return sees, owner


def without_lse(found: Reads) -> Reads:
    """Of a call that does not give a log-sum-exp: that result is empty."""
    empty = np.zeros((*found.groups["lse"].shape[:-2], 0), int)
    return dataclasses.replace(found, groups={**found.groups, "lse": empty})


class Heads:
    """Masks for q [B, Sq, Hq, D], k and v [B, Sk, Hk, D]; packed operands count as B = 1 and come without that axis.

    sees: bool [Sq, Sk]; owner: sequence of each packed query, None where the sequences are the batch.
    """

    def __init__(self, q, k, sees: Mask, owner: Any | None = None):
        self.sees, self.owner = sees, owner
        self.batch = q.shape[0] if owner is None else 1
        self.hq, self.hk = q.shape[-2], k.shape[-2]
        self.sq, self.sk = sees.shape

    def _masks(self, batch, queries, keys, heads, kv_heads, alibi_slopes, bias) -> dict[str, Mask]:
        """Of groups that each read some of every axis ([G, B], [G, Sq], [G, Sk], [G, Hq], [G, Hk])."""
        lead = () if self.owner is not None else (batch,)
        query, key = spread(*lead, queries, heads, None), spread(*lead, keys, kv_heads, None)
        row = spread(*lead, heads, queries)
        found = {"q": query, "dout": query, "out": query, "k": key, "v": key, "lse": row, "dlse": row, "sinks": spread(heads)}
        if bias is not None:
            found["bias"] = spread(queries, keys)
        if alibi_slopes is not None:
            found["alibi_slopes"] = self.per_head(alibi_slopes, batch, queries, heads)
        return found

    def per_head(self, x, batch, queries, heads) -> Mask:
        """Numbers [H] or, by sequence too, [B, H]; which the sequences of packed queries are, their owners say."""
        if x.ndim == 1:
            return spread(heads)
        return spread(batch if self.owner is None else queries @ at(self.owner, len(x)), heads)

    def forward(self, alibi_slopes=None, bias=None, scales: Mapping[str, Any] | None = None) -> Reads:
        """Results out and lse. scales: of fp8 operands, [1] or [B, Hk] by name."""
        b, i, h = grid(self.batch, self.sq, self.hq)
        kv = at(h // (self.hq // self.hk), self.hk)
        axes = at(b, self.batch), at(i, self.sq), self.sees[i], at(h, self.hq), kv
        found = self._masks(*axes, alibi_slopes, bias)
        for name, scale in (scales or {}).items():
            if scale.ndim == 2:
                found[name] = self.per_head(scale, axes[0], axes[1], kv)
        label = np.where(self.sees.any(1)[:, None], np.arange(len(b)).reshape(self.batch, self.sq, self.hq), NOTHING)
        lse = label.swapaxes(1, 2)
        return Reads(len(b), {"out": self._packed(label)[..., None], "lse": self._packed(lse)}, found)

    def backward(self, alibi_slopes=None, bias=None) -> Reads:
        """Results dq by query, dk and dv by key, dbias by score; each reads both sides of the scores it is a sum over."""
        shared = self.hq // self.hk
        b, i, h = grid(self.batch, self.sq, self.hq)
        parts = [(at(b, self.batch), at(i, self.sq), self.sees[i], at(h, self.hq), at(h // shared, self.hk))]
        b, j, h = grid(self.batch, self.sk, self.hk)
        own = at(h, self.hk)
        parts.append((at(b, self.batch), self.sees.T[j], at(j, self.sk), np.repeat(own, shared, axis=1), own))
        labels = np.arange(sum(len(p[0]) for p in parts))
        dq, dk = (labels[: len(parts[0][0])], self.sq, self.hq), (labels[len(parts[0][0]) :], self.sk, self.hk)
        dq, dk = (self._packed(x.reshape(self.batch, *shape))[..., None] for x, *shape in (dq, dk))
        seen, useful = self.sees.any(1)[:, None, None], self.sees.any(0)[:, None, None]
        groups = {"dq": np.where(seen, dq, NOTHING), "dk": np.where(useful, dk, NOTHING), "dv": np.where(useful, dk, NOTHING)}
        groups["dbias"] = np.full((1, 1), NOTHING)
        if bias is not None:  # summed over sequences and heads
            i, j = grid(self.sq, self.sk)
            every = np.ones((len(i), max(self.batch, self.hq)), bool)
            parts.append((every[:, : self.batch], at(i, self.sq), at(j, self.sk), every[:, : self.hq], every[:, : self.hk]))
            groups["dbias"] = np.where(self.sees, len(labels) + np.arange(len(i)).reshape(self.sees.shape), NOTHING)
        found = [self._masks(*axes, alibi_slopes, bias) for axes in parts]
        return Reads(sum(len(p[0]) for p in parts), groups, {n: stacked([f[n] for f in found]) for n in found[0]})

    def _packed(self, x: np.ndarray) -> Mask:
        return x if self.owner is None else x[0]
