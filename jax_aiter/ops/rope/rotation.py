"""The arithmetic of rotary embedding, and what its ops check and read: a head's elements in pairs, a table row per position."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import check, symbolic
from jax_aiter.core.reads import Mask, Part, at, grid, spread

STYLES = ("neox", "gptj")


def partner(x, style):
    """Swap the two members of each rotated pair: (i, i + R/2) for neox, (2i, 2i + 1) for gptj."""
    if style == "neox":
        return jnp.roll(x, x.shape[-1] // 2, axis=-1)
    return jnp.flip(x.reshape(*x.shape[:-1], x.shape[-1] // 2, 2), axis=-1).reshape(x.shape)


def _pairs(x: jax.Array, style: str) -> tuple[jax.Array, jax.Array]:
    """The first and the second members of all pairs."""
    if style == "neox":
        first, second = jnp.split(x, 2, axis=-1)
        return first, second
    x = x.reshape(*x.shape[:-1], x.shape[-1] // 2, 2)
    return x[..., 0], x[..., 1]


def check_tables(
    op: str, dims: Mapping[str, int], cos: Any, sin: Any, reuse_freqs_front_part: bool, head: str, of: str, columns_of: str = "R"
) -> None:
    """The axes of the tables are P and `columns_of`; they rotate all or part of the axis `head`, the last of operand `of`."""
    check.same_dtype(op, cos=cos.dtype, sin=sin.dtype)
    columns = dims[columns_of]
    if dims["P"] == 0:
        raise ValueError(f"{op}: dimension 0 of cos is 0, must be at least 1 (one row per position)")
    if not reuse_freqs_front_part:
        check.multiple(op, "dimension 1 of cos", columns, 2, "it is the rotary dimension, which is rotated in pairs")
    rotary = columns * (2 if reuse_freqs_front_part else 1)
    what = "twice dimension 1 of cos" if reuse_freqs_front_part else "dimension 1 of cos"
    rule = f"{op}: the rotary dimension ({what}) is {rotary}, must be in [2, {dims[head]}] (the last dimension of {of})"
    symbolic.below(0, rotary, rule)
    symbolic.below(rotary, dims[head] + 1, rule)


def rows_at(cos: jax.Array, sin: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float32 rows of both tables, with an axis for heads; positions outside the table read its nearest row.

    A gather for each: put together first, the tables would be read and written whole in every call, for a model's length of
    131,072 positions 67 MB for the one row of a sequence that is decoded.
    """
    rows = jnp.clip(positions, 0, cos.shape[0] - 1)
    c, s = (table.at[rows].get(mode="promise_in_bounds")[..., None, :].astype(jnp.float32) for table in (cos, sin))
    return c, s


def rotate(
    x: jax.Array, rows: tuple[jax.Array, jax.Array], rotate_style: str, reuse_freqs_front_part: bool, nope_first: bool
) -> jax.Array:
    """x [..., H, D] turned by `rows_at` its positions, in float32, rounded to its dtype."""
    # Pairs apart and no table widened: on a GPU that is one kernel which reads each angle once. Halves swapped by jnp.roll would be
    # put together within the head: of such an array XLA's kernels for GPUs (jaxlib 0.10.2) take wrong rows behind a norm.
    (c1, c2), (s1, s2) = ((t, t) if reuse_freqs_front_part else _pairs(t, rotate_style) for t in rows)
    columns = 2 * c1.shape[-1]
    still = x.shape[-1] - columns
    kept, turned = (x[..., :still], x[..., still:]) if nope_first else (x[..., columns:], x[..., :columns])
    first, second = _pairs(turned.astype(jnp.float32), rotate_style)
    members = [(first * c1 - second * s1).astype(x.dtype), (second * c2 + first * s2).astype(x.dtype)]
    parts = members if rotate_style == "neox" else [jnp.stack(members, axis=-1).reshape(turned.shape)]
    return jnp.concatenate([kept, *parts] if nope_first else [*parts, kept], axis=-1)


def back(sin: jax.Array, rotate_style: str, reuse_freqs_front_part: bool) -> jax.Array:
    """The sines of the transposed rotation, which is a rotation too: by the same cosines."""
    return -(sin if reuse_freqs_front_part else partner(sin, rotate_style))


def call_of(op: str, cos: Any, sin: Any, rotate_style: Any, **flags: Any) -> dict[str, Any]:
    """The tables and parameters of a record's call from those of its public function, checked."""
    check.choice(op, "rotate_style", rotate_style, STYLES)
    booleans = {name: check.boolean(op, name, flag) for name, flag in flags.items()}
    return {"cos": flat_table(cos), "sin": flat_table(sin), "rotate_style": rotate_style, **booleans}


def head_part(name: str, x: np.ndarray, result: str, positions: np.ndarray, cos: np.ndarray) -> Part:
    """One group per head of operand ``x [..., H, D]``: it reads itself, and of the tables the row of its position."""
    *rows, head = grid(*x.shape[:-1])
    row = [at(i, n) for i, n in zip(rows, positions.shape, strict=True)]
    table = row_read(positions[tuple(rows)], cos)
    read = {name: spread(*row, at(head, x.shape[-2]), None), "cos": table, "sin": table}
    return result, np.arange(len(head)).reshape(*x.shape[:-1], 1), read


def row_read(positions: np.ndarray, cos: np.ndarray) -> Mask:
    """Of a table, the row that each position reads: ``[G, P, 1]`` from positions ``[G]``."""
    return spread(at(np.clip(positions, 0, len(cos) - 1), len(cos)), None)


def position_checks(positions: jax.Array, cos: jax.Array) -> dict[str, jax.Array]:
    return {f"positions must be in [0, {cos.shape[0]}), the rows of cos": (positions < 0) | (positions >= cos.shape[0])}


def flat_table(table: Any) -> Any:
    """AITER's ``[P, 1, 1, R]`` tables lose their middle."""
    shape = getattr(table, "shape", ())
    return table.reshape(shape[0], shape[3]) if len(shape) == 4 and shape[1:3] == (1, 1) else table
