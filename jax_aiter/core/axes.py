"""Named axes: one string per operand serves the shape check, the sharding rule, the batching fold and the docs.

``"T D"`` names two dimensions, ``"... D"`` any number of leading ones (``...`` may stand elsewhere too), ``"B 1"`` a literal size.
The same name in two operands must have the same size.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

FLOATING = ("float32", "bfloat16", "float16")
FP8_TYPES = ("float8_e4m3fnuz", "float8_e4m3fn")
INT32 = ("int32",)


@dataclasses.dataclass(frozen=True)
class Arg:
    """One operand: its axes, the dtypes it may have, whether it may be absent."""

    axes: str
    dtypes: tuple[str, ...] = FLOATING
    optional: bool = False


class Dims(Mapping[str, int]):
    """Sizes by axis name; ``...`` holds the tuple of leading sizes."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._origin: dict[str, str] = {}
        self.leading: tuple[int, ...] | None = None

    def __getitem__(self, name: str) -> int:
        return self._sizes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def rows(self) -> int:
        return math.prod(self.leading or ())

    def bind(self, op: str, operand: str, axes: str, shape: tuple[int, ...]) -> None:
        """Match one operand's shape against its axes, or raise ValueError naming operand, dimension, value and rule."""
        names = axes.split()
        places = list(range(len(names)))  # of each name among the dimensions
        if "..." in names:
            at, more = names.index("..."), len(shape) - len(names) + 1
            if more < 0:
                raise ValueError(f"{op}: {operand} must have at least {len(names) - 1} dimensions [{axes}], got shape {shape}")
            lead = shape[at : at + more]
            if self.leading is not None and self.leading != lead:
                raise ValueError(
                    f"{op}: the leading dimensions of {operand} are {lead}, but those of {self._origin['...']} are {self.leading}"
                )
            self.leading = lead
            self._origin.setdefault("...", operand)
            names = [*names[:at], *names[at + 1 :]]
            places = [*range(at), *range(at + more, len(shape))]
        elif len(shape) != len(names):
            raise ValueError(f"{op}: {operand} must have {len(names)} dimensions [{axes}], got shape {shape}")
        for axis, name in zip(places, names, strict=True):
            size = shape[axis]
            want = int(name) if name.isdigit() else self._sizes.setdefault(name, size)
            origin = self._origin.setdefault(name, f"dimension {axis} of {operand}")
            if want != size:
                rule = f"must be {want}" if name.isdigit() else f"must be {name} = {want} ({origin})"
                raise ValueError(f"{op}: dimension {axis} of {operand} is {size}, {rule}; its shape is {shape} for [{axes}]")


def check_dtype(op: str, operand: str, dtype: np.dtype, allowed: tuple[str, ...]) -> None:
    if jnp.dtype(dtype).name not in allowed:
        raise TypeError(f"{op}: {operand} has dtype {jnp.dtype(dtype).name}, must be {' or '.join(allowed)}")


def match(op: str, args: Mapping[str, Arg], operands: Mapping[str, Any]) -> Dims:
    """Check every operand (an array or its shape and dtype, or None) against its `Arg` and return the axis sizes."""
    dims = Dims()
    for name, arg in args.items():
        x = operands.get(name)
        if x is None:
            if not arg.optional:
                raise TypeError(f"{op}: {name} is required, got None")
            continue
        check_dtype(op, name, x.dtype, arg.dtypes)
        dims.bind(op, name, arg.axes, tuple(x.shape))
    return dims


def axis_names(axes: str, ndim: int) -> tuple[str, ...]:
    """The axis name of each of `ndim` dimensions; those of ``...`` are called ``...0``, ``...1`` and so on."""
    names = axes.split()
    if "..." not in names:
        return tuple(names)
    at = names.index("...")
    return (*names[:at], *(f"...{i}" for i in range(ndim - len(names) + 1)), *names[at + 1 :])
