"""What the results of one call depend on: as its record says (`core.reads`), else as the record's axes say."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jax_aiter.core.axes import axis_names
from jax_aiter.core.reads import Reads, at, grid, spread, stacked
from jax_aiter.core.record import Record


def of(op: Record, operands: Mapping[str, Any], params: Mapping[str, Any]) -> Reads:
    """What the groups of a call with these concrete operands read: as its record says, else as the record's axes say."""
    values = {n: np.asarray(x) for n, x in operands.items() if x is not None}
    if op.reads is None:
        results = op.infer({n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in values.items()}, params)
        return by_axes(op, {n: x.shape for n, x in values.items()}, params, [r.shape for r in results])
    found = op.reads(**{n: values.get(n) for n in op.operands}, **params)
    return dataclasses.replace(found, operands={n: mask for n, mask in found.operands.items() if n in values})


def by_axes(op: Record, operands: Mapping[str, tuple[int, ...]], params: Mapping[str, Any], results) -> Reads:
    """Along a parallel or a fold axis, a result reads of the operands what stands at its own index; shapes in, in order."""
    free = {*op.parallel, op.fold} - {None}
    args = op.operand_args(params)
    names = {n: axis_names(args[n].axes, len(shape)) for n, shape in operands.items()}
    groups, masks, size = {}, {n: [] for n in operands}, 0
    for (result, axes), shape in zip(op.result_axes(params).items(), results, strict=True):
        axes = axis_names(axes, len(shape))
        own = {axis: n for axis, n in zip(axes, shape, strict=True) if axis in free or ("..." in free and axis[:3] == "...")}
        count = math.prod(own.values())
        label = np.arange(size, size + count).reshape([n if axis in own else 1 for axis, n in zip(axes, shape, strict=True)])
        groups[result] = np.broadcast_to(label, shape)
        index = dict(zip(own, grid(*own.values()), strict=True))
        for n, sizes in operands.items():
            mask = spread(*(at(index[a], s) if a in index else None for a, s in zip(names[n], sizes, strict=True)))
            masks[n].append(np.broadcast_to(mask, (count, *mask.shape[1:])))
        size += count
    return Reads(size, groups, {n: stacked(parts) for n, parts in masks.items()})
