"""Sparse attention's indexer: the largest of each row, against `jax.lax.top_k` behind a mask."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter
from jax_aiter.cli.bench.row import Call, Operands, Peer, Row


def _inside(a: Operands) -> tuple[jax.Array, jax.Array]:
    """Logits with what no row sees as -inf, and which are seen."""
    column = jnp.arange(a["logits"].shape[1])
    seen = (column >= a["row_starts"][:, None]) & (column < a["row_ends"][:, None])
    return jnp.where(seen, a["logits"], -jnp.inf), seen


def top_k(rows: int, columns: int, k: int) -> Row:
    """Of rows that are seen whole. Their logits lie as normal ones do, which is what a radix search's bins feel, and are distinct,
    so that every form takes the same.
    """

    def draw() -> Operands:
        order = jax.random.permutation(
            jax.random.key(1), jnp.broadcast_to(jnp.arange(columns), (rows, columns)), axis=1, independent=True
        )
        logits = jax.scipy.special.ndtri((order.astype(jnp.float32) + 0.5) / columns)
        return {"logits": logits, "row_starts": jnp.zeros(rows, jnp.int32), "row_ends": jnp.full(rows, columns, jnp.int32)}

    def ours(how: str | None) -> Call:
        return lambda a: jax_aiter.top_k_per_row_prefill(a["logits"], a["row_starts"], a["row_ends"], k=k, implementation=how)

    def theirs(a: Operands) -> Any:
        masked, seen = _inside(a)
        _, found = jax.lax.top_k(masked, k)
        return jnp.where(jnp.take_along_axis(seen, found, axis=1), found, -1)

    peers = (Peer("lax.top_k", theirs),)
    name, moved = f"top_k_per_row_prefill {rows}x{columns} k{k}", 4.0 * rows * (columns + k)
    view = lambda found: jnp.sort(found, axis=1)  # noqa: E731
    return Row(name, "top_k_per_row_prefill", draw, ours, peers, "logits", moved, 0.0, tolerance=0.0, view=view)
