"""What a mesh with Explicit axes says about an op's results: the parallel axes keep the sharding of the operand that has it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jax_aiter.core.axes import axis_names
from jax_aiter.core.record import Record


def explicit_mesh(avals):
    """The mesh of the first operand whose type carries explicit axes, else None."""
    for aval in avals:
        mesh = aval.sharding.mesh
        if not mesh.empty and any(t == AxisType.Explicit for t in mesh.axis_types):
            return mesh
    return None


def varying_axes(aval) -> frozenset[str]:
    """The manual mesh axes over which a value differs between devices, inside `jax.shard_map`."""
    manual = getattr(aval, "manual_axis_type", None)  # jax >= 0.10; before, the aval carries the set itself
    return frozenset(manual.varying if manual is not None else getattr(aval, "vma", frozenset()))


def same_varying_axes(values: Sequence[jax.Array]) -> list[jax.Array]:
    """Make all operands vary over the same mesh axes; the transpose of this step sums the gradients of replicated operands."""
    sets = [varying_axes(jax.typeof(x)) for x in values]
    union = frozenset().union(*sets)
    if not union:
        return list(values)
    out = []
    for x, have in zip(values, sets, strict=True):
        missing = tuple(sorted(union - have))
        out.append(jax.lax.pcast(x, missing, to="varying") if missing else x)
    return out


def entries(aval) -> tuple[Any, ...]:
    """The mesh axes of each dimension; a spec may leave out the last ones."""
    spec = tuple(aval.sharding.spec)
    return spec + (None,) * (aval.ndim - len(spec))


def is_parallel(parallel: Collection[str], axis: str) -> bool:
    """`parallel` is that of an `Op`."""
    return axis in parallel or (axis.startswith("...") and "..." in parallel)


def placements(parallel: Collection[str], operands: Iterable[tuple[Sequence[str], Sequence[Any]]]) -> dict[str, Any]:
    """Mesh axes by parallel axis, from each operand's axis names and PartitionSpec entries.

    The first operand that splits an axis decides, and a mesh axis serves one axis only.
    """
    placed: dict[str, Any] = {}
    used: set[str] = set()
    for axes, spec in operands:
        for axis, entry in zip(axes, spec, strict=True):
            mesh_axes = set(_mesh_axes(entry))
            if mesh_axes and is_parallel(parallel, axis) and axis not in placed and not used & mesh_axes:
                placed[axis] = entry
                used |= mesh_axes
    return placed


def refuse_pending_sums(op: Record, avals: Mapping[str, Any]) -> None:
    """No op of ours is linear in all it does, so none may see the parts of a sum that JAX has put off."""
    for name, aval in avals.items():
        spec = aval.sharding.spec
        pending = sorted({*getattr(spec, "unreduced", ()), *getattr(spec, "reduced", ())})
        if pending:
            raise ValueError(
                f"{op.name}: the sharding of {name} is {spec}, must be neither unreduced nor reduced over {pending}; "
                "jax.sharding.reshard it first"
            )


def result_specs(op: Record, avals: Mapping[str, Any], results, params) -> list[NamedSharding | None]:
    """One sharding per result for explicit meshes; all None (no say) without one."""
    mesh = explicit_mesh(avals.values())
    if mesh is None:
        return [None] * len(results)
    refuse_pending_sums(op, avals)
    args = op.operand_args(params)
    placed = placements(op.parallel, ((axis_names(args[n].axes, a.ndim), entries(a)) for n, a in avals.items()))
    out = []
    for struct, axes in zip(results, op.result_axes(params).values(), strict=True):
        names = axis_names(axes, len(struct.shape))
        out.append(NamedSharding(mesh, PartitionSpec(*(placed.get(n) for n in names))))
    return out


def retyped(mesh, axis_type: AxisType):
    """The same mesh with its Explicit axes made Auto or Manual, for tracing code whose inner ops need no explicit shardings."""
    changed = {n: axis_type for n, t in zip(mesh.axis_names, mesh.axis_types, strict=True) if t == AxisType.Explicit}
    return mesh.update_axis_types(changed)


def on_plain_types(
    function: Callable[..., Sequence[jax.Array]], values: Sequence[jax.Array], types: Sequence[Any]
) -> list[jax.Array]:
    """`function` of values whose types carry explicit shardings, traced on types that do not; its results get those of `types`.

    Explicit types would have every ``reshape``, ``scan`` and ``gather`` inside state its sharding, which none of ours does.
    """
    mesh = explicit_mesh([*map(jax.typeof, values), *types])
    if mesh is None:
        return list(function(*values))
    replicated = NamedSharding(mesh, PartitionSpec())  # for an operand that was made before there was a mesh
    shardings = [replicated if aval.sharding.mesh.empty else aval.sharding for aval in types]
    axes = tuple(n for n, t in zip(mesh.axis_names, mesh.axis_types, strict=True) if t == AxisType.Explicit)
    plain: Any = jax.sharding.auto_axes(lambda *parts: list(function(*parts)), axes=axes, out_sharding=shardings)
    return plain(*values)


def without_batch(aval, dim: int | None):
    """The type of one element of a batch at dimension `dim`."""
    if dim is None:
        return aval
    shape, spec = list(aval.shape), list(entries(aval))
    del shape[dim], spec[dim]
    return aval.update(shape=tuple(shape), sharding=aval.sharding.update(spec=PartitionSpec(*spec)))


def with_batch(aval, axis_data):
    """The type of a batch of `aval`, at dimension 0, split as `jax.vmap` says."""
    over = axis_data.explicit_mesh_axis
    free = [None if set(_mesh_axes(entry)) & set(_mesh_axes(over)) else entry for entry in entries(aval)]
    spec = PartitionSpec(over, *free)
    return aval.update(shape=(axis_data.size, *aval.shape), sharding=aval.sharding.update(spec=spec))


def _mesh_axes(entry) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def constrain(x: jax.Array, sharding: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, NamedSharding(retyped(sharding.mesh, AxisType.Auto), sharding.spec))
