"""Axes of size zero: what needs no arithmetic at all is answered here, once for every op.

Any axis of any op may be empty. Where that leaves every result without an element, the shapes are the whole answer: lowering,
`vmap` and the gradient give it without asking the op, so that no reference has to mind a division by its number of rows. What is
left to an op are results with elements and nothing to make them of, a sum over no columns say: those its reference must get right.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp


def is_empty(x: Any) -> bool:
    """Some axis of `x` has size 0. A symbolic size has not: it stands for at least 1."""
    return any(size == 0 for size in x.shape)


def all_empty(arrays: Iterable[Any]) -> bool:
    return all(map(is_empty, arrays))


def zeros(structs: Iterable[Any]) -> tuple[jax.Array, ...]:
    return tuple(jnp.zeros(x.shape, x.dtype) for x in structs)
