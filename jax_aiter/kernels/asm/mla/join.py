"""Joining partial attention results by their log-sum-exps: the second stage of MLA decoding.

AITER runs a Triton kernel (even splits) or a HIP kernel compiled at first use (work lists). Here XLA joins: it needs neither
Triton nor a compiler on the machine, fuses the change of rows and dtype that follows, and defines what AITER's kernels leave
open: a partition that no workgroup wrote has log-sum-exp -inf, and a fully masked one may be NaN; both weigh nothing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def join_splits(parts: jax.Array, lse: jax.Array) -> tuple[jax.Array, jax.Array]:
    """parts float32 [rows, splits, H, D], lse [rows, splits, H] -> [rows, H, D], [rows, H]; rows without keys give 0 and -inf."""
    lse = _defined(lse)
    top = lse.max(1)
    weight = _weight(lse, top[:, None])
    total = weight.sum(1)
    out = _weighted(weight, parts).sum(1)
    return _finish(out, total, top)


def join_works(parts: jax.Array, lse: jax.Array, tile: jax.Array, tiles: int) -> tuple[jax.Array, jax.Array]:
    """parts float32 [works, rows, H, D], lse [works, rows, H], tile int32 [works] (`tiles`: none) -> [tiles, rows, H, D], ..."""
    lse = _defined(lse)
    options = {"num_segments": tiles + 1, "indices_are_sorted": True}
    top = jax.ops.segment_max(lse, tile, **options)
    weight = _weight(lse, top[tile])
    total = jax.ops.segment_sum(weight, tile, **options)
    out = jax.ops.segment_sum(_weighted(weight, parts), tile, **options)
    return _finish(out[:tiles], total[:tiles], top[:tiles])


def _defined(lse: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(lse), -jnp.inf, lse)


def _weight(lse: jax.Array, top: jax.Array) -> jax.Array:
    return jnp.where(lse == -jnp.inf, 0.0, jnp.exp(lse - jnp.where(top == -jnp.inf, 0.0, top)))


def _weighted(weight: jax.Array, parts: jax.Array) -> jax.Array:
    return jnp.where(weight[..., None] > 0, weight[..., None] * parts, 0.0)


def _finish(out: jax.Array, total: jax.Array, top: jax.Array) -> tuple[jax.Array, jax.Array]:
    some = total > 0
    return out / jnp.where(some, total, 1.0)[..., None], jnp.where(some, top + jnp.log(jnp.where(some, total, 1.0)), -jnp.inf)
