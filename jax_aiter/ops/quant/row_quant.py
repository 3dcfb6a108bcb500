"""Quantisation of rows that an op has just computed in float32: what the ops that end in it share.

A scale per row, per group of columns of a row (``group_size``), or one that is given for the whole tensor.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import check
from jax_aiter.core.record import Struct
from jax_aiter.ops.quant import numerics
from jax_aiter.ops.quant.group_quant import GROUP_SIZES


def params(op: str, *, quant_dtype: Any, group_size: Any, transpose_scale: Any, static: bool) -> dict[str, Any]:
    """The record's parameters from those of the public function; `static`: a scale is given."""
    dtype = numerics.quant_dtype(op, quant_dtype)
    transpose_scale = check.boolean(op, "transpose_scale", transpose_scale)
    if group_size is not None:
        check.choice(op, "group_size", check.integer(op, "group_size", group_size, low=1), GROUP_SIZES)
        if static:
            raise ValueError(
                f"{op}: group_size is {group_size} and scale is given, which is one for the whole tensor; give one of them"
            )
    elif transpose_scale:
        raise ValueError(f"{op}: transpose_scale is True, which needs a group_size: one of {list(GROUP_SIZES)}")
    return {"quant_dtype": dtype, "group_size": None if group_size is None else int(group_size), "transpose_scale": transpose_scale}


def structs(op: str, what: str, shape: tuple[int, ...], static: bool, quant_dtype, group_size, transpose_scale):
    """Those of values and scales of rows of `shape`; `what` names their width. A given scale comes back as no columns."""
    *lead, width = shape
    columns = 0 if static else 1
    if group_size is not None:
        check.multiple(op, what, width, group_size, "group_size")
        columns = width // group_size
    scale = (columns, *lead) if transpose_scale else (*lead, columns)
    return Struct(shape, quant_dtype), Struct(scale, jnp.float32)


def quantize(y: jax.Array, scale: jax.Array | None, quant_dtype: np.dtype, group_size: int | None, transpose_scale: bool):
    """Values and scales of float32 rows; `scale`: float32 ``[1]``, the one that is given."""
    if scale is not None:
        xq = numerics.quantize(y, scale, quant_dtype, truncate_int8=True)
        return xq, jnp.zeros((*y.shape[:-1], 0), jnp.float32)
    rows = y if group_size is None else y.reshape(*y.shape[:-1], y.shape[-1] // group_size, group_size)
    scale = numerics.amax_scale(rows, quant_dtype, -1)
    xq = numerics.quantize(rows, scale, quant_dtype, truncate_int8=True).reshape(y.shape)
    scale = scale if group_size is None else scale[..., 0]
    return xq, scale.T if transpose_scale else scale


def fold_transposed(batched, *rows: str):
    """A batching rule for calls with ``transpose_scale``, whose scales ``[G, M]`` do not lead with the rows: a batch is more rows.

    rows: the operands ``[M, ...]``. Results but the second, the scales, are ``[M, ...]`` too.
    """
    if any(name in batched for name in batched.op.operands if name not in rows):
        return NotImplemented  # another weight for each: one call per element
    given = {n: x for n, x in batched.values.items() if n not in rows}
    merged = {n: batched.broadcast(n) for n in rows if batched.get(n) is not None}
    size, tokens = merged[rows[0]].shape[:2]
    merged = {n: x.reshape(size * tokens, *x.shape[2:]) for n, x in merged.items()}
    xq, scale, *others = batched.bind(**given, **merged)
    xq, *others = (x.reshape(size, tokens, *x.shape[1:]) for x in (xq, *others))
    return xq, jnp.moveaxis(scale.reshape(-1, size, tokens), 1, 0), *others
