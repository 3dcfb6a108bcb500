"""A kernel call under plain `jit` over several devices: split along the op's parallel axes, without gathering operands.

No kernel runs on the CPU, so the choice is forced to "a kernel runs" and the body is the reference: what is tested is that each
device gets a call of its own size, which is the part that decides over the all-gather.
"""

import jax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_aiter.bind import partition, select
from jax_aiter.bind.op import OPS

from .common import ULPS, assert_same, bound, expected
from .test_sharding import COMMUNICATION, ROW_WISE, SPLITTABLE, mesh_of, place, specs, splittable

FIRST = {op.name: (op, case) for op, case in reversed(SPLITTABLE) if op.name in ROW_WISE}


@pytest.fixture
def kernels_everywhere(monkeypatch):
    from jax._src import dispatch

    monkeypatch.setattr(select, "preferred", lambda call, implementation: ("triton", {}))
    known = dispatch.prim_requires_devices_during_lowering
    added = {op.primitive for op in OPS.values()} - known
    known |= added
    jax.clear_caches()
    yield
    known -= added
    jax.clear_caches()


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("name", sorted(FIRST))
def test_a_kernel_call_is_split(name, axis_type, kernels_everywhere):
    op, case = FIRST[name]
    operands = case.draw()
    axis = splittable(op, case)[0]
    in_specs, out_specs = specs(op, case, axis)
    mesh = mesh_of(axis_type)
    want = expected(op, case, "xla")
    with jax.set_mesh(mesh):
        placed = place(operands, mesh, in_specs)
        compiled = jax.jit(bound(op, case)).lower(placed).compile()
        assert not COMMUNICATION.findall(compiled.as_text())
        got = compiled(placed)
        assert_same(got, want, ulps=ULPS)
        for x, spec in zip(got, out_specs, strict=True):
            if x.size:  # XLA has each device hold an empty array whole
                assert x.sharding.is_equivalent_to(NamedSharding(mesh, spec), x.ndim)


def test_an_axis_that_does_not_split_is_gathered_first(kernels_everywhere):
    """Splitting the reduced axis of rms_norm is the caller's right; the result is the same."""
    op, case = FIRST["rms_norm"]
    operands = case.draw()
    if operands["x"].shape[-1] % 2:
        pytest.skip("the first case has an odd width")
    mesh = mesh_of(AxisType.Auto)
    want = bound(op, case, "xla")(operands)
    placed = place(operands, mesh, {"x": P(*(None,) * (operands["x"].ndim - 1), "d"), "weight": P("d")})
    with jax.set_mesh(mesh):
        assert_same(jax.jit(bound(op, case))(placed), want, ulps=ULPS)


def test_plugin_detection_starts_no_backend(monkeypatch):
    monkeypatch.setattr(partition.importlib.util, "find_spec", lambda name: None)
    assert partition.gpu_plugin_installed() is False
