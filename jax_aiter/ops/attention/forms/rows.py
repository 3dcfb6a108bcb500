"""Attention in whole rows of scores: what a GPU computes where no fused kernel takes the call.

A block of queries meets all keys that it can see in one product, one softmax and one product (`row_blocks`), as XLA fuses best.
No loop ends where the data says, so the host never waits. Products run in the operands' type with float32 sums; probabilities
are rounded to it before they meet the values, as in `jax.nn.dot_product_attention` and in every fused kernel.

What a query does not see meets none of its arithmetic, as in `blocks`; what it sees and is not finite shows in its whole row.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.ops.attention.forms import row_blocks
from jax_aiter.ops.attention.forms.softmax import F32, dot, soft_cap
from jax_aiter.ops.attention.forms.visible import Keys, Scores

NAME = "whole rows of scores, by blocks of queries"

# The score of a hidden key. Not -inf, of which a row without keys would make NaN; no difference of two scores overflows.
LOW = float(-0.7 * np.finfo(np.float32).max)


class Rows:
    """The operands with the heads of all sequences as one axis: q [M, G, Sq, D], k [M, Sk, D], v [M, Sk, Dv], M = N Hk."""

    def __init__(self, keys: Keys, scores: Scores, **operands: jax.Array):
        n, hk, g, self.queries, _ = operands["q"].shape
        self.heads, self.keys_count = n * hk, operands["k"].shape[2]
        self.plan = row_blocks.cut(self.heads, g, self.queries, self.keys_count, keys.reach)
        self.scale, self.cap, self.bias = scores.scale, scores.soft_cap, scores.bias
        self.shape = n, hk
        arrays: dict[str, Any] = {name: self.merged(x) for name, x in operands.items()}
        self.shared: dict[str, Any] = {}
        for name, x in zip(("begin", "end", "diagonal"), keys[:3], strict=True):
            if x.ndim == 2 and x.shape[0] != 1:
                arrays[name] = jnp.repeat(x, hk, axis=0)
            else:
                self.shared[name] = x.reshape(1, x.shape[-1])
        if scores.slopes is not None:
            slopes = scores.slopes
            arrays["slopes"] = self.merged(jnp.broadcast_to(slopes, (n, hk, *slopes.shape[2:])))
        if scores.sinks is not None:
            arrays["sinks"] = self.merged(jnp.broadcast_to(scores.sinks, (n, *scores.sinks.shape)))
        if isinstance(scores.scale, jax.Array):  # one per sequence and key head
            arrays["scale"] = jnp.broadcast_to(scores.scale, (n, hk)).reshape(self.heads)
        self.arrays = arrays

    def merged(self, x: jax.Array) -> jax.Array:
        """[N, Hk, ...] -> [M, ...]."""
        return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])

    def parted(self, x: jax.Array) -> jax.Array:
        return x.reshape(*self.shape, *x.shape[1:])

    def block(self, x: jax.Array, i: Any, axis: int) -> jax.Array:
        """The block i of queries; those behind the last are zeros, which see the empty interval."""
        size, there = self.plan.queries, x.shape[axis]
        short = -(-there // size) * size - there
        if short != 0:
            x = jnp.pad(x, [(0, short if a == axis % x.ndim else 0) for a in range(x.ndim)])
        return jax.lax.dynamic_slice_in_dim(x, i * size, size, axis)

    def score(self, x: Mapping[str, jax.Array], qi, kj, i, start, width) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(capped scores before ALiBi and bias, scores, mask [M or 1, 1, queries, keys])."""
        get = {**self.shared, **x}
        begin, end, diagonal = (self.block(get[n], i, 1)[:, None, :, None] for n in ("begin", "end", "diagonal"))
        index = start + jnp.arange(width, dtype=jnp.int32)
        mask = (begin <= index) & (index < end)
        scale = get["scale"][:, None, None, None] if "scale" in get else self.scale
        s = capped = soft_cap(dot("mgqd,mkd->mgqk", qi, kj) * scale, self.cap)
        if "slopes" in get:
            slope = get["slopes"] if get["slopes"].shape[2] == 1 else self.block(get["slopes"], i, 2)
            s = s - slope[..., None] * jnp.abs(diagonal - index).astype(F32)
        if self.bias is not None:
            s = s + keys_of(self.block(self.bias, i, 0), start, width, 1).astype(F32)
        return capped, jnp.where(mask, jnp.maximum(s, LOW), LOW), mask


def keys_of(x: jax.Array, start, width, axis: int = 1) -> jax.Array:
    return x if width == x.shape[axis] else jax.lax.dynamic_slice_in_dim(x, start, width, axis)


def finite_copy(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows with every number that is not finite set to zero, and whether each row had none."""
    finite = jnp.isfinite(x)
    return jnp.where(finite, x, jnp.zeros((), x.dtype)), finite.all(-1)


def forward(q, k, v, keys: Keys, scores: Scores):
    """As `blocks.forward`."""
    rows = Rows(keys, scores, q=q, k=k, v=v)

    def heads(x, carry):
        def body(i, start, width, carry):
            kj, (vj, finite) = keys_of(x["k"], start, width), finite_copy(keys_of(x["v"], start, width))
            _, s, mask = rows.score(x, rows.block(x["q"], i, 2), kj, i, start, width)
            top = jax.lax.stop_gradient(jnp.max(s, axis=-1, keepdims=True))
            e = jnp.exp(s - top)
            total = jnp.sum(e, axis=-1, keepdims=True)
            p = jnp.where(finite[:, None, None], e / total, jnp.nan)
            p = jnp.where(s <= LOW, 0.0, p).astype(vj.dtype)
            out, lse = dot("mgqk,mkd->mgqd", p, vj), jnp.where(top <= LOW, -jnp.inf, top + jnp.log(total))
            if "sinks" in x:  # one more score, of no value, where there is some key
                sink = x["sinks"][..., None, None].astype(F32)
                out = out * jax.nn.sigmoid(lse - sink)
                lse = jnp.where(mask.any(-1, keepdims=True), jnp.logaddexp(lse, sink), -jnp.inf)
            return carry, (out.astype(q.dtype), lse)

        return row_blocks.over(rows.plan, body, carry)

    _, (out, lse) = row_blocks.by_heads(rows.plan, rows.heads, heads, rows.arrays, ())
    out, lse = (rows.parted(x[:, :, : rows.queries]) for x in (out, lse))
    return out, lse[..., 0]
