"""Calls of every op with axes of size zero, found from the records: what a case becomes when one of its axes is emptied.

Some axes are tied: with I = 0 there are no rows of 2I either, and no sequences still have one offset. Which combinations are calls
is the op's own say, so the smallest sets of further axes that it accepts are looked for rather than listed.
"""

import dataclasses
import itertools

import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.core.axes import axis_names
from jax_aiter.core.cases import Array, Case

OFFSETS = ("Bp", "B1", "Np")  # one more than there are sequences, or tiles
MOST_TIED = 4


def named_axes(op: Op, case: Case) -> dict[str, tuple[str, ...]]:
    """The names of each operand's dimensions."""
    args = op.operand_args(case.params)
    return {name: axis_names(args[name].axes, len(array.shape)) for name, array in case.operands.items()}


def axes(op: Op, case: Case) -> list[str]:
    return sorted({axis for names in named_axes(op, case).values() for axis in names if not axis.isdigit()})


def emptied(op: Op, case: Case, chosen: tuple[str, ...]) -> Case:
    """The case with these axes of size 0 (offsets: of 1, a zero), the other operands as they were drawn."""
    sizes = {axis: int(axis in OFFSETS) for axis in chosen}
    operands = {}
    for name, names in named_axes(op, case).items():
        array = case.operands[name]
        shape = tuple(sizes.get(axis, size) for axis, size in zip(names, array.shape, strict=True))
        operands[name] = array if shape == array.shape else dataclasses.replace(array, shape=shape, fill=_nothing(array))
    label = "_".join(f"{axis}={size}" for axis, size in sizes.items())
    return Case(f"{case.name}-{label}", operands, case.params)


def _nothing(array: Array):
    """Draws what the whole operand would, so that the operands after it are the same, and takes nothing of it."""

    def fill(rng, shape):
        array.fill(rng, array.shape)
        return np.zeros(shape)

    return fill


def accepted(op: Op, case: Case) -> bool:
    try:
        op.infer({name: array.struct for name, array in case.operands.items()}, case.params)
    except (TypeError, ValueError):
        return False
    return True


def calls(op: Op, case: Case, *wanted: str) -> list[Case]:
    """The accepted calls with these axes empty and as few others as that takes; none where they cannot be."""
    others = [other for other in axes(op, case) if other not in wanted]
    for count in range(MOST_TIED):
        tied = itertools.combinations(others, count)
        found = [e for more in tied if accepted(op, e := emptied(op, case, (*wanted, *more)))]
        if found:
            return found
    return []
