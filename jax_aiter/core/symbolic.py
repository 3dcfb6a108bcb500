"""Dimensions that are expressions of `jax.export.symbolic_shape`: what is asked of them now, and what once they are numbers.

Equality of sizes needs nothing of ours: two expressions that are not the same count as different, and the rule that wanted them
equal says so. An order may be undecided. A choice that only concerns speed then takes the way that is right for every size
(`decided`). A rule (`below`) is put off: the program carries it as a shape assertion, which JAX checks when it is called.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import export

from jax_aiter.core.axes import axis_names

try:
    from jax.errors import InconclusiveDimensionOperation as Undecided
except ImportError:  # jax 0.9
    from jax.core import InconclusiveDimensionOperation as Undecided  # type: ignore[attr-defined,no-redef]


class Limit(NamedTuple):
    """``low < high``, or the message."""

    low: Any
    high: Any
    message: str


_put_off: contextvars.ContextVar[list[Limit] | None] = contextvars.ContextVar("jax_aiter_put_off", default=None)


def is_symbolic(size: Any) -> bool:
    return export.is_symbolic_dim(size)


def any_symbolic(*arrays: Any) -> bool:
    """A dimension of one of these is an expression."""
    return any_symbolic_size(*(size for x in arrays for size in getattr(x, "shape", ())))


def any_symbolic_size(*sizes: Any) -> bool:
    return any(map(is_symbolic, sizes))


def decided(relation: Callable[[], bool]) -> bool | None:
    """What the relation says of every possible size, None if it depends."""
    try:
        return bool(relation())
    except Undecided:
        return None


def dimensions(axes: Mapping[str, str], operands: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The axis of each symbolic dimension and what it is, in words; `axes` are the operands' by name."""
    for name, x in operands.items():
        if any_symbolic(x):
            for i, (axis, size) in enumerate(zip(axis_names(axes[name], len(x.shape)), x.shape, strict=True)):
                if is_symbolic(size):
                    yield axis, f"dimension {i} of {name} ({axis}) is {size}"


def refuse(op: str, fixed: Sequence[str], axes: Mapping[str, str], operands: Mapping[str, Any]) -> None:
    """Raise ValueError for a symbolic dimension along one of the axes `fixed`."""
    if any_symbolic(*operands.values()):
        for axis, what in dimensions(axes, operands):
            if axis in fixed:
                raise ValueError(f"{op}: {what}, must be a number: it decides how the call is computed")


def below(low: Any, high: Any, message: str) -> None:
    """Raise ValueError unless ``low < high``; where symbolic sizes leave it open, the program is to check it (see `put_off`)."""
    holds = decided(lambda: low < high)
    if holds is False:
        raise ValueError(message)
    if holds is None and (found := _put_off.get()) is not None:
        found.append(Limit(low, high, message))


@contextlib.contextmanager
def put_off() -> Iterator[list[Limit]]:
    """Collect the limits that `below` could not decide inside the block."""
    found: list[Limit] = []
    token = _put_off.set(found)
    try:
        yield found
    finally:
        _put_off.reset(token)


def insist(limits: list[Limit]) -> None:
    """Put the limits into the program that is being traced, as assertions about its shapes. In 64 bits: see `switches`."""
    from jax._src.export.shape_poly import shape_assertion  # nothing public adds a rule of one's own

    for low, high, message in limits:
        shape_assertion(jnp.asarray(low, jnp.int64) < jnp.asarray(high, jnp.int64), error_message=message)


@contextlib.contextmanager
def named(op: str, axes: Mapping[str, str], operands: Mapping[str, Any]) -> Iterator[None]:
    """What JAX cannot decide about sizes becomes a ValueError that names the op and each symbolic dimension, `axes` by operand."""
    try:
        yield
    except Undecided as error:
        found = ", ".join(what for _, what in dimensions(axes, operands))
        rule = str(error).strip().splitlines()[0]
        raise ValueError(f"{op}: {found}; one of these must be a number: {rule}") from None
