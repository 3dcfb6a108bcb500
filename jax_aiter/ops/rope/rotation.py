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


def _rotate(x, style):
    """The pair's quarter turn: (a, b) -> (-b, a)."""
    column = jnp.arange(x.shape[-1])
    first = column < x.shape[-1] // 2 if style == "neox" else column % 2 == 0
    return partner(x, style) * jnp.where(first, -1.0, 1.0).astype(x.dtype)


def _widen(table, style):
    """One angle per pair to one per element."""
    return jnp.tile(table, 2) if style == "neox" else jnp.repeat(table, 2, axis=-1)


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
    c, s = (jnp.take(table, rows, axis=0)[..., None, :].astype(jnp.float32) for table in (cos, sin))
    return c, s


def rotate(
    x: jax.Array, rows: tuple[jax.Array, jax.Array], rotate_style: str, reuse_freqs_front_part: bool, nope_first: bool
) -> jax.Array:
    """x [..., H, D] turned by `rows_at` its positions, in float32, rounded to its dtype."""
    c, s = rows
    if reuse_freqs_front_part:
        c, s = _widen(c, rotate_style), _widen(s, rotate_style)
    still = x.shape[-1] - c.shape[-1]
    kept, turned = (x[..., :still], x[..., still:]) if nope_first else (x[..., c.shape[-1] :], x[..., : c.shape[-1]])
    turned = turned.astype(jnp.float32)
    turned = (turned * c + _rotate(turned, rotate_style) * s).astype(x.dtype)
    return jnp.concatenate([kept, turned] if nope_first else [turned, kept], axis=-1)


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
