"""Every op, every case, every axis of every operand split over two of four devices in turn: value and gradient.

In Explicit meshes a gradient has its operand's type, sharding included; in Auto meshes it only has to be right.
"""

import jax
import pytest
from jax.sharding import AxisType

from . import meshes
from .common import ALL

MESHES = [AxisType.Explicit, AxisType.Auto]


def every_split():
    """By default an op's first case in an Explicit mesh, one split of it for an op without gradient; all others exhaustively."""
    seen: set = set()
    for op, case in ALL:
        first = op.name not in seen
        seen.add(op.name)
        gradient = bool(meshes.differentiable(op, case.operands)) if first else False
        for i, (name, dim) in enumerate(meshes.even(case)):
            for axis_type in MESHES:
                usual = first and ((axis_type is AxisType.Explicit and (gradient or i == 0)) or (gradient and i == 0))
                marks = [] if usual else [pytest.mark.exhaustive]
                yield pytest.param(op, case, name, dim, axis_type, id=f"{op.name}-{case.name}-{name}{dim}-{axis_type}", marks=marks)


@pytest.mark.parametrize(("op", "case", "name", "dim", "axis_type"), list(every_split()))
def test_split(op, case, name, dim, axis_type, request):
    mesh = meshes.mesh_of(axis_type)
    with jax.set_mesh(mesh):
        meshes.check(
            op, case, {(name, dim): "d"}, mesh, request.config.getoption("--implementation"), axis_type is AxisType.Explicit
        )
