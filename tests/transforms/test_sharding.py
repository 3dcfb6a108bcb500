"""`jax.shard_map` over every parallel axis, and plain `jit` on sharded inputs, in Auto and Explicit meshes."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_aiter.bind.sharding import is_parallel
from jax_aiter.core.axes import axis_names

from .common import ALL, LATER, ULPS, assert_same, bound, dims_of, expected, thinned

MESHES = pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
COMMUNICATION = re.compile(r"\b(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(-start)?\(")


def mesh_of(axis_type):
    return jax.make_mesh((2,), ("d",), axis_types=(axis_type,), devices=jax.devices()[:2])


def splittable(op, case):
    """The parallel axes of a case whose sizes two devices can share: every operand or result that has the axis has it even."""
    sizes = {}
    for name, array in case.operands.items():
        for axis, size in zip(dims_of(op, case, name), array.shape, strict=True):
            if is_parallel(op.parallel, axis):
                sizes[axis] = size
    return sorted(axis for axis, size in sizes.items() if size % 2 == 0 and size > 0)


def specs(op, case, *split):
    """PartitionSpecs of operands and results with some axes split (None is no axis)."""
    operands = {n: P(*("d" if a in split else None for a in dims_of(op, case, n))) for n in case.operands}
    shapes = op.infer({n: a.struct for n, a in case.operands.items()}, case.params)
    axes = op.result_axes(case.params).values()
    results = [P(*("d" if a in split else None for a in axis_names(s, len(x.shape)))) for s, x in zip(axes, shapes, strict=True)]
    return operands, tuple(results)


def split_together(op, case):
    """Sets of axes to split at once: one, where every result has it, else with the others: query heads with those of the keys."""
    axes = splittable(op, case)
    for chosen in [(axis,) for axis in axes] + [tuple(axes)]:
        operands, results = specs(op, case, *chosen)
        if all("d" in spec for spec in results) and all(tuple(spec).count("d") <= 1 for spec in (*operands.values(), *results)):
            yield chosen


def place(operands, mesh, placed):
    return {n: jax.device_put(x, NamedSharding(mesh, placed[n])) for n, x in operands.items()}


@pytest.mark.parametrize(
    "axis_type", [pytest.param(AxisType.Auto, marks=LATER, id="auto"), pytest.param(AxisType.Explicit, id="explicit")]
)
@thinned(ALL)
def test_shard_map(op, case, axis_type, request):
    """Inside, axes are manual whatever they are outside; only the placed operands and results have the mesh's type."""
    implementation = request.config.getoption("--implementation")
    run, operands, want = bound(op, case, implementation), case.draw(), expected(op, case, implementation)
    mesh = mesh_of(axis_type)
    for axes in [(), *split_together(op, case)]:
        in_specs, out_specs = specs(op, case, *axes)
        mapped = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=(in_specs,), out_specs=out_specs))
        assert_same(mapped(place(operands, mesh, in_specs)), want, ulps=ULPS, what=f"axes {axes}")


# The ops of which the design promises that they stay sharded; the others only have to be right.
ROW_WISE = {
    *("rms_norm", "rms_norm_with_add", "per_token_quant", "group_quant", "convert_fp8", "silu_and_mul", "gelu_and_mul", "rope"),
    *("rms_norm_quant", "fused_qk_rms_norm_quant", "act_mul_and_quant", "layer_norm"),
    *("topk_softmax", "topk_sigmoid", "grouped_topk", "biased_grouped_topk", "fused_topk"),
    *("gemm_a16w16", "gemm_a8w8", "gemm_a8w8_blockscale"),
    *("top_k_per_row_prefill", "top_k_per_row_decode"),
}
SPLITTABLE = [(op, case) for op, case in ALL if splittable(op, case)]


def row_wise_first():
    """That the others are right when split is the business of `test_meshes`; all of them here with the mark `exhaustive`."""
    seen: set = set()
    for op, case in SPLITTABLE:
        usual = op.name in ROW_WISE and op.name not in seen
        seen.add(op.name)
        yield pytest.param(op, case, id=f"{op.name}-{case.name}", marks=[] if usual else LATER)


@MESHES
@pytest.mark.parametrize(("op", "case"), list(row_wise_first()))
def test_sharded_inputs_under_jit_stay_sharded(op, case, axis_type, request):
    """The first parallel axis stays where it is: no collective in the compiled program, results sharded alike."""
    implementation = request.config.getoption("--implementation")
    run, operands, want = bound(op, case, implementation), case.draw(), expected(op, case, implementation)
    mesh = mesh_of(axis_type)
    axis = splittable(op, case)[0]
    in_specs, out_specs = specs(op, case, axis)
    with jax.set_mesh(mesh):
        placed = place(operands, mesh, in_specs)
        compiled = jax.jit(run).lower(placed).compile()
        got = compiled(placed)
        assert_same(got, want, ulps=ULPS)
        if op.name in ROW_WISE:
            assert not COMMUNICATION.findall(compiled.as_text())
            for x, spec in zip(got, out_specs, strict=True):
                if x.size:  # what was not asked for is empty, and nowhere
                    assert x.sharding.is_equivalent_to(NamedSharding(mesh, spec), x.ndim), (x.sharding, spec)


def test_row_wise_ops_were_covered():
    names = {op.name for op, _ in SPLITTABLE}
    assert names >= ROW_WISE, ROW_WISE - names


def test_gradient_of_a_replicated_weight_is_summed():
    """Inside `shard_map` the rows are split and the weight is not: its gradient must be that of all rows."""
    from jax_aiter import rms_norm

    mesh = mesh_of(AxisType.Auto)
    x, w = jnp.arange(32.0).reshape(4, 8) / 7 - 2, jnp.linspace(0.5, 1.5, 8)

    def loss(x, w):
        mapped = jax.shard_map(rms_norm, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))
        return jnp.sum(mapped(x, w) ** 3)

    got = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, w)
    want = jax.grad(lambda x, w: jnp.sum(rms_norm(x, w) ** 3), argnums=(0, 1))(x, w)
    assert_same(got, want, ulps=16)
