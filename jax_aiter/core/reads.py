"""What each result of a call depends on: the record's word on which elements must meet no arithmetic.

A *group* is a set of result elements that depend on the same elements of the operands: a row, a token, one head of one query. What
a group does not read (padding, another sequence, a masked key, an expert that was not chosen) may hold NaN and changes nothing in
it; what no group reads changes nothing at all, and has a gradient of zero. The tests poison everything else.

This is numpy on concrete operands, and says what a call means rather than how it is computed: it shares no code with references.
"""

import dataclasses
import math
from collections.abc import Sequence
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
