"""What each result of a call depends on: the record's word on which elements must meet no arithmetic.

A *group* is a set of result elements that depend on the same elements of the operands: a row, a token, one head of one query. What
a group does not read (padding, another sequence, a masked key, an expert that was not chosen) may hold NaN and changes nothing in
it; what no group reads changes nothing at all, and has a gradient of zero. The tests poison everything else.

This is numpy on concrete operands, and says what a call means rather than how it is computed: it shares no code with references.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

NOTHING = -1
Mask: TypeAlias = Any  # a bool array; numpy's stubs call every comparison of two arrays a scalar or an array


@dataclasses.dataclass(frozen=True)
class Reads:
    """Groups 0 .. size - 1 of result elements and what they read.

    groups: by result, int of its shape: the group of each element; `NOTHING` for elements that are the same whatever the operands
        hold (rows of no sequence).
    operands: by operand, bool that broadcasts to ``[size, *shape]``: the elements that each group reads. All read an operand that
        is left out.
    """

    size: int
    groups: dict[str, np.ndarray]
    operands: dict[str, Mask]


def spread(*factors: Mask | None) -> Mask:
    """``[G, n1, n2, ...]`` from one ``[G, n]`` per dimension: the elements that all of them hold; None says nothing (size 1)."""
    out = np.ones((1,) * (len(factors) + 1), bool)
    for axis, factor in enumerate(factors, 1):
        if factor is not None:
            out = out & factor.reshape(len(factor), *(-1 if i == axis else 1 for i in range(1, len(factors) + 1)))
    return out


def at(index: np.ndarray, size: int) -> Mask:
    """bool ``[G, size]``: where each group's own index stands; nowhere for one outside [0, size)."""
    return np.asarray(index)[:, None] == np.arange(size)


def grid(*sizes: int) -> np.ndarray:
    """int ``[len(sizes), G]``: the coordinates of every element of an array of that shape, in its order."""
    return np.indices(sizes).reshape(len(sizes), math.prod(sizes))


def stacked(parts: Sequence[Mask]) -> Mask:
    """One mask of all groups from those of some each; axes of size one widen where others need it."""
    wide = np.broadcast_shapes(*(m.shape[1:] for m in parts))
    return np.concatenate([np.broadcast_to(m, (len(m), *wide)) for m in parts])


#: The result elements of some groups, labelled from 0, and what each group reads, by operand ``[groups, ...]``.
Part = tuple[str, np.ndarray, Mapping[str, Mask]]


def joined(parts: list[Part]) -> Reads:
    """The reads of an op with several results; a part does not read the operands that only other parts name."""
    groups, size, masks = {}, 0, {n: [] for _, _, read in parts for n in read}
    for result, label, read in parts:
        count = len(next(iter(read.values())))
        groups[result], size = label + size, size + count
        for n, found in masks.items():
            rank = max(np.ndim(other[n]) for _, _, other in parts if n in other)
            found.append(read.get(n, np.zeros((count, *(1,) * (rank - 1)), bool)))
    return Reads(size, groups, {n: stacked(found) for n, found in masks.items()})
