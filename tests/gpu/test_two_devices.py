"""Kernels on two GPUs of one process: under `shard_map`, and under plain `jit` without gathering operands."""

import jax
import pytest
from jax.sharding import AxisType, NamedSharding

from tests.transforms.common import bound
from tests.transforms.test_sharding import COMMUNICATION, mesh_of, place, specs, split_together, splittable

from .common import close, every_call, get, runs_kernel

pytestmark = pytest.mark.skipif(jax.local_device_count() < 2, reason="needs two GPUs")


@every_call
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_shard_map(name, axis_type):
    op, case = get(name)
    operands = case.draw()
    want = bound(op, case, "xla")(operands)
    mesh = mesh_of(axis_type)
    axes = next(iter(split_together(op, case)), ())  # fused_moe declares no axis that splits: all of it on both devices
    in_specs, out_specs = specs(op, case, *axes)
    mapped = jax.jit(jax.shard_map(bound(op, case, "triton"), mesh=mesh, in_specs=(in_specs,), out_specs=out_specs))
    placed = place(operands, mesh, in_specs)
    compiled = mapped.lower(placed).compile()
    assert runs_kernel(compiled)
    close(compiled(placed), want, what=f"axes {axes}")


@every_call
def test_sharded_inputs_under_jit_are_not_gathered(name):
    op, case = get(name)
    operands = case.draw()
    want = bound(op, case, "xla")(operands)
    mesh = mesh_of(AxisType.Auto)
    if not splittable(op, case):
        pytest.skip(f"{name} declares no axis that splits without communication")
    axis = splittable(op, case)[0]
    in_specs, out_specs = specs(op, case, axis)
    with jax.set_mesh(mesh):
        placed = place(operands, mesh, in_specs)
        compiled = jax.jit(bound(op, case, "triton")).lower(placed).compile()
        assert runs_kernel(compiled)
        assert not COMMUNICATION.findall(compiled.as_text())
        got = compiled(placed)
    close(got, want, what=f"axis {axis}")
    for x, spec in zip(got, out_specs, strict=True):
        assert x.sharding.is_equivalent_to(NamedSharding(mesh, spec), x.ndim), (x.sharding, spec)


@every_call
def test_the_second_device_alone(name):
    """Modules are loaded per device: a program of the second one must not use handles of the first."""
    op, case = get(name)
    operands = case.draw()
    want = bound(op, case, "xla")(operands)
    moved = {n: jax.device_put(x, jax.devices()[1]) for n, x in operands.items()}
    got = jax.jit(bound(op, case, "triton"))(moved)
    assert {d.id for x in got for d in x.devices()} == {jax.devices()[1].id}
    close(got, want)
