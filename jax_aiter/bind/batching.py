"""`jax.vmap` of an op: fold the batch into an axis the op already loops over, else a loop that is correct."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jax_aiter.bind import empty, equation, sharding, switches
from jax_aiter.core import symbolic
from jax_aiter.core.record import Record

if TYPE_CHECKING:
    from jax.extend.core import Primitive


class Batched:
    """What a batching rule sees: operands with the batch at axis 0 where they have one.

    An op's own rule is ``rule(batched, **params) -> results with the batch at axis 0, or NotImplemented``.
    """

    def __init__(
        self,
        op: Record,
        primitive: "Primitive",
        values: Mapping[str, jax.Array],
        names: frozenset[str],
        size: int,
        params: Mapping[str, Any],
    ):
        self.op, self.values, self.names, self.size = op, values, names, size
        self._primitive, self._params = primitive, params

    @property
    def implementation(self) -> str | None:
        """What the caller chose; a rule that calls another op passes it on."""
        return self._params["implementation"]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def get(self, name: str) -> jax.Array | None:
        return self.values.get(name)

    def broadcast(self, name: str) -> jax.Array:
        """The operand with the batch at axis 0, copied along it if it had none."""
        x = self.values[name]
        return x if name in self.names else jnp.broadcast_to(x, (self.size, *x.shape))

    def bind(self, **values: jax.Array | None):
        """The unbatched op on new operands (None = absent)."""
        present = {n: values[n] for n in self.op.operands if values.get(n) is not None}
        return self._primitive.bind(*present.values(), **{**self._params, "names": tuple(present)})


def rule(op: Record, primitive: "Primitive", axis_data: Any, values, dims, **params):
    names = params["names"]
    if all(d is None for d in dims):
        out = primitive.bind(*values, **params)
        return out, [None] * len(out)
    static = equation.static_params(params)
    has = frozenset(n for n, d in zip(names, dims, strict=True) if d is not None)

    def run(*values):
        front = {n: x if d is None else jnp.moveaxis(x, d, 0) for n, x, d in zip(names, values, dims, strict=True)}
        batched = Batched(op, primitive, front, has, axis_data.size, params)
        with switches.pinned(wide=symbolic.any_symbolic(*values)):
            out = _nothing(batched, static)
            if out is NotImplemented and op.batch:
                out = op.batch(batched, **static)
            if out is NotImplemented:
                out = _fold(batched, static) if _foldable(batched, static) else _loop(batched)
        return list(out)

    avals = [jax.typeof(x) for x in values]
    if sharding.explicit_mesh(avals) is None:
        out = run(*values)
        return out, [0] * len(out)
    each = [sharding.without_batch(a, d) for a, d in zip(avals, dims, strict=True)]
    types = [sharding.with_batch(aval, axis_data) for aval in equation.result_types(op, each, **params)]
    return sharding.on_plain_types(run, values, types), [0] * len(types)


def _nothing(batched: Batched, static: Mapping[str, Any]):
    """Zeros where no result has an element, over no elements of a batch say."""
    values = batched.values
    if not any(map(empty.is_empty, values.values())):
        return NotImplemented
    one = {n: jax.ShapeDtypeStruct(x.shape[1:] if n in batched else x.shape, x.dtype) for n, x in values.items()}
    results = [jax.ShapeDtypeStruct((batched.size, *x.shape), x.dtype) for x in batched.op.infer(one, static)]
    if not empty.all_empty(results):
        return NotImplemented
    return sharding.same_varying_axes([*values.values(), *empty.zeros(results)])[len(values) :]


def merged(x: jax.Array) -> jax.Array:
    """The batch at axis 0 folded into axis 1."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def split(x: jax.Array, size: int) -> jax.Array:
    """`merged` undone, for a batch of `size`."""
    return x.reshape(size, x.shape[0] // size, *x.shape[1:])


def _leads(axes: str, fold: str) -> bool:
    return axes.split()[:1] == [fold]


def _foldable(batched: Batched, static: Mapping[str, Any]) -> bool:
    op = batched.op
    if op.fold is None:
        return False
    args = op.operand_args(static)
    # A result without the fold axis would have to be split again, and may depend on the whole batch.
    results = op.result_axes(static).values()
    return all(_leads(args[n].axes, op.fold) for n in batched.names) and all(_leads(axes, op.fold) for axes in results)


def _fold(batched: Batched, static: Mapping[str, Any]):
    """Merge the batch with the fold axis of every operand that has it; with ``...`` it simply becomes one more leading axis."""
    op, size = batched.op, batched.size
    args = op.operand_args(static)
    folded = {}
    for name, x in batched.values.items():
        if not _leads(args[name].axes, op.fold or ""):
            folded[name] = x
            continue
        full = batched.broadcast(name)
        folded[name] = full if op.fold == "..." else merged(full)
    out = batched.bind(**folded)
    return out if op.fold == "..." else [split(x, size) for x in out]


def _loop(batched: Batched):
    """One call per batch element, in order: right for any op, and no more memory than one call needs."""
    sliced = {n: x for n, x in batched.values.items() if n in batched.names}
    shared = {n: x for n, x in batched.values.items() if n not in batched.names}
    return jax.lax.map(lambda xs: tuple(batched.bind(**shared, **xs)), sliced)
