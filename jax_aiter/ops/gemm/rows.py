"""Leading axes of a GEMM's activations: ``[..., K]`` is a matrix of that many rows, and so are the scales that go with it.

The records and the kernels behind them know matrices only, so that is what they are given.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jax_aiter.bind import sharding
from jax_aiter.bind.op import Op
from jax_aiter.bind.public import as_operand
from jax_aiter.core import axes
from jax_aiter.core.record import Struct

ROWS = "M"


def over_rows(op: Op, *, implementation: str | None = None, kernel: str | None = None, **arguments: Any) -> jax.Array:
    """The result ``[..., N]`` of `op`, whose operands may have any leading axes (the same ones) in place of M."""
    operands = {n: as_operand(op.name, n, arguments.pop(n, None), (type(None),)) for n in op.operands}
    call = {**arguments, "implementation": implementation, "kernel": kernel}
    args = op.operand_args(arguments)
    first = next(n for n, arg in args.items() if ROWS in arg.axes.split())
    if operands[first] is None or operands[first].ndim == 2:
        return op(**operands, **call)[0]
    # The operands' axes with `...` for M.
    leading = {n: " ".join("..." if a == ROWS else a for a in arg.axes.split()) for n, arg in args.items()}
    structs = {n: Struct(x.shape, x.dtype) for n, x in operands.items() if x is not None}
    dims = axes.match(op.name, {n: dataclasses.replace(arg, axes=leading[n]) for n, arg in args.items()}, structs)
    lead = dims.leading or ()
    flat = {n: _flat(leading[n], x.shape) for n, x in structs.items()}
    (y,) = _inferred(op, first, lead, {n: Struct(flat[n], x.dtype) for n, x in structs.items()}, arguments)
    values = {n: x for n, x in operands.items() if x is not None}

    def product(*parts: jax.Array) -> list[jax.Array]:
        (out,) = op(**{n: part.reshape(flat[n]) for n, part in zip(values, parts, strict=True)}, **call)
        return [out.reshape(*lead, out.shape[-1])]

    shape = (*lead, y.shape[-1])
    result = jax.typeof(values[first]).update(shape=shape, dtype=y.dtype, weak_type=False, **_split(op, leading, values, shape))
    return sharding.on_plain_types(product, list(values.values()), [result])[0]


def _flat(names: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with the axes of ``...`` merged into one."""
    if "..." not in names.split():
        return shape
    at, kept = names.split().index("..."), len(names.split()) - 1
    more = len(shape) - kept
    return (*shape[:at], math.prod(shape[at : at + more]), *shape[at + more :])


def _inferred(op: Op, first: str, lead: tuple[int, ...], structs: Mapping[str, Struct], params: Mapping[str, Any]):
    """What the record says of the matrices; its errors tell their shapes, so they say where M comes from."""
    try:
        return op.infer(structs, params)
    except ValueError as error:
        raise ValueError(f"{error}; M is the product of the leading axes {lead} of {first}") from None


def _split(op: Op, leading: Mapping[str, str], values: Mapping[str, jax.Array], shape: tuple[int, ...]) -> dict[str, NamedSharding]:
    """In a mesh with Explicit axes, the result's sharding: as of a record of which the leading axes are parallel as M is."""
    types = {n: jax.typeof(x) for n, x in values.items()}
    mesh = sharding.explicit_mesh(types.values())
    if mesh is None:
        return {}
    sharding.refuse_pending_sums(op, types)  # the record itself is called on types that do not show them
    named = ((axes.axis_names(leading[n], aval.ndim), sharding.entries(aval)) for n, aval in types.items())
    placed = sharding.placements(("...", *op.parallel), named)
    spec = PartitionSpec(*(placed.get(n) for n in axes.axis_names("... N", len(shape))))
    return {"sharding": NamedSharding(mesh, spec)}
