"""What a mesh with Explicit axes says about an op's results: the parallel axes keep the sharding of the operand that has it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jax_aiter.core.axes import axis_names

if TYPE_CHECKING:
    from jax_aiter.core.op import Op


def explicit_mesh(avals):
    """The mesh of the first operand whose type carries explicit axes, else None."""
    for aval in avals:
        mesh = aval.sharding.mesh
        if not mesh.empty and any(t == AxisType.Explicit for t in mesh.axis_types):
            return mesh
    return None


def is_parallel(op: "Op", axis: str) -> bool:
    return axis in op.parallel or (axis.startswith("...") and "..." in op.parallel)


def placements(op: "Op", operands: Iterable[tuple[Sequence[str], Sequence[Any]]]) -> dict[str, Any]:
    """Mesh axes by parallel axis, from each operand's axis names and PartitionSpec entries.

    The first operand that splits an axis decides, and a mesh axis serves one axis only.
    """
    placed: dict[str, Any] = {}
    used: set[str] = set()
    for axes, spec in operands:
        for axis, entry in zip(axes, spec, strict=True):
            mesh_axes = {entry} if isinstance(entry, str) else set(entry or ())
            if mesh_axes and is_parallel(op, axis) and axis not in placed and not used & mesh_axes:
                placed[axis] = entry
                used |= mesh_axes
    return placed


def result_specs(op: "Op", avals: Mapping[str, Any], results, params) -> list[NamedSharding | None]:
    """One sharding per result for explicit meshes; all None (no say) without one."""
    mesh = explicit_mesh(avals.values())
    if mesh is None:
        return [None] * len(results)
    args = op.operand_args(params)
    placed = placements(op, ((axis_names(args[n].axes, a.ndim), a.sharding.spec) for n, a in avals.items()))
    out = []
    for struct, axes in zip(results, op.result_axes(params).values(), strict=True):
        names = axis_names(axes, len(struct.shape))
        out.append(NamedSharding(mesh, PartitionSpec(*(placed.get(n) for n in names))))
    return out


def retyped(mesh, axis_type: AxisType):
    """The same mesh with its Explicit axes made Auto or Manual, for tracing code whose inner ops need no explicit shardings."""
    changed = {n: axis_type for n, t in zip(mesh.axis_names, mesh.axis_types, strict=True) if t == AxisType.Explicit}
    return mesh.update_axis_types(changed)


def constrain(x: jax.Array, sharding: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, NamedSharding(retyped(sharding.mesh, AxisType.Auto), sharding.spec))
